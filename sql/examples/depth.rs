use asofdb_sql::parse;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: usize = a[2].parse().unwrap();
    let op = a[1].clone();
    let pre = a[3].clone();
    let mid = a[4].clone();
    let post = a[5].clone();
    let sql = format!("{}{mid}{}", pre.repeat(n), post.repeat(n));
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || -> () {
            let p = parse(&sql);
            match p {
                Err(e) => println!("err {e}"),
                Ok(p) => {
                    match op.as_str() {
                        "parse" => {}
                        "clone" => drop(p.clone()),
                        "eq" => {
                            let q = p[0].statement == p[0].statement;
                            assert!(q)
                        }
                        "display" => {
                            p[0].statement.to_string();
                        }
                        "debug" => {
                            let _ = format!("{:?}", p);
                        }
                        _ => {}
                    }
                    std::mem::drop(p);
                    println!("ok")
                }
            }
        })
        .unwrap()
        .join()
        .unwrap();
}
