use asofdb_planner::*;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
async fn run(s: &Session, sql: &str) {
    println!("\n> {sql}");
    for p in match asofdb_sql::parse(sql) { Ok(p)=>p, Err(e)=>{println!("PARSE ERROR {e}"); return} } {
        match s.prepare(&p, &[]).await {
            Err(e) => { println!("PREPARE ERROR {e} hint {:?}", e.hint()); return; }
            Ok(pr) => match s.execute(&pr, vec![]).await {
                Err(e) => println!("ERROR {e} hint {:?}", e.hint()),
                Ok(Outcome::Rows{stream,..}) => match stream.try_collect::<Vec<_>>().await { Ok(b)=>println!("{}", pretty_format_batches(&b).unwrap()), Err(e)=>println!("STREAM ERROR {e}") },
                Ok(Outcome::Done{tag,notices}) => println!("{tag} {notices:?}"),
                Ok(_) => println!("copy"),
            }
        }
    }
}
#[tokio::test(flavor="multi_thread")]
async fn scratch() {
    let dir = tempfile::tempdir().unwrap();
    let opts = DatabaseOptions{data_dir: dir.path().into(), import_dirs: vec!["/work/main/tests/data".into(), dir.path().into()], memory_limit_bytes: 1<<30};
    let db = Database::open(opts.clone()).await.unwrap();
    let s = db.session();
    let script = std::fs::read_to_string("/tmp/script.sql").unwrap();
    for stmt in script.split("\n--\n") {
        if stmt.trim() == "REOPEN" { continue }
        run(&s, stmt).await;
    }
    db.close().await; drop(s); drop(db);
    let db = Database::open(opts).await.unwrap();
    println!("=========== reopened");
    let s = db.session();
    for stmt in std::fs::read_to_string("/tmp/script2.sql").unwrap().split("\n--\n") { run(&s, stmt).await; }
}
