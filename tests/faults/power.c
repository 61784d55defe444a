/* Records what a process has made durable, for a test that takes away all else as a power loss
   does. Loaded before libc, in the folder SHADOW:

   content/<inode>  the content of a file at its last fsync
   names/<inode>    the entries of a folder at its last fsync: inode, type, name

   An fsync returns after its record is complete. A record may hold more than was fsynced, if
   another thread writes meanwhile: never less. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy_content(int fd, FILE *out) {
    static __thread char buffer[1 << 16];
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int in = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; in >= 0 && (n = read(in, buffer, sizeof buffer)) > 0;)
        fwrite(buffer, 1, n, out);
    close(in);
}

static void copy_names(int fd, FILE *out) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            fprintf(out, "%lu %c %s\n", entry->d_ino, entry->d_type == DT_DIR ? 'd' : 'f', entry->d_name);
    if (dir)
        closedir(dir);
}

static void record(int fd) {
    const char *shadow = getenv("SHADOW");
    struct stat status;
    if (!shadow || fstat(fd, &status) != 0)
        return;
    int is_dir = S_ISDIR(status.st_mode);
    char target[4096], aside[4200];
    snprintf(target, sizeof target, "%s/%s/%lu", shadow, is_dir ? "names" : "content", status.st_ino);
    snprintf(aside, sizeof aside, "%s.%d", target, gettid());
    FILE *out = fopen(aside, "w");
    if (!out)
        abort();
    (is_dir ? copy_names : copy_content)(fd, out);
    if (fclose(out) != 0 || rename(aside, target) != 0)
        abort();
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0)
        record(fd);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
