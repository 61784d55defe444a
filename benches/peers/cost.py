"""What a peer's run took: the keys of `Cost` in ../train/cost.rs, as JSON on standard output."""
import json
import resource
import time


class Cost:
    def __enter__(self):
        self.wall, self.usage = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)

    def __exit__(self, error, *_):
        if error:
            return
        wall, usage = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({
            "wall_s": wall - self.wall,
            "user_s": usage.ru_utime - self.usage.ru_utime,
            "system_s": usage.ru_stime - self.usage.ru_stime,
            "peak_mb": usage.ru_maxrss * 1024 / 1e6,
        }))
