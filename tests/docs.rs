//! Executes the SQL of `README.md` and `docs/**/*.md`: each file's ```sql blocks in order on a
//! fresh database, over the wire. A table in the ```text block that follows one is what the block's
//! last statement has to answer.

mod fresh;

use std::path::Path;

use asofdb_tests::database::files_below;
use fresh::Fresh;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A statement or an expected answer, and the line where it starts.
enum Step {
    Run { line: usize, sql: String },
    Expect { line: usize, table: Vec<Vec<String>> },
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_sql_runs() -> Result<(), fresh::Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let wanted = std::env::var("ASOFDB_DOCS").unwrap_or_default();
    let mut files = vec![root.join("README.md")];
    files.extend(files_below(&root.join("docs"), "md")?);
    let mut failures = Vec::new();
    let mut statements = 0;
    for file in files.iter().filter(|f| f.to_string_lossy().contains(&wanted)) {
        let steps = steps_of(&std::fs::read_to_string(file)?);
        statements += steps.iter().filter(|s| matches!(s, Step::Run { .. })).count();
        if !steps.is_empty() {
            run(&root, file, &steps, &mut failures).await?;
        }
    }
    assert!(statements > 0, "no documented SQL was found");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

async fn run(
    root: &Path,
    file: &Path,
    steps: &[Step],
    failures: &mut Vec<String>,
) -> Result<(), fresh::Error> {
    let place =
        |line: usize| format!("{}:{line}", file.strip_prefix(root).unwrap_or(file).display());
    let database = Fresh::start().await?;
    let client = fresh::connect(database.port()).await?;
    let mut answer = Vec::new();
    for step in steps {
        match step {
            Step::Run { line, sql } => match rows(&client, sql).await {
                Ok(rows) => answer = rows,
                Err(error) => {
                    answer = Vec::new();
                    failures.push(format!("{}: {error}", place(*line)));
                }
            },
            Step::Expect { line, table } if *table != answer => {
                failures.push(format!("{}: expected {table:?}, found {answer:?}", place(*line)));
            }
            Step::Expect { .. } => {}
        }
    }
    drop(client);
    database.stop().await;
    Ok(())
}

/// The column names and then the rows; NULL is empty, as psql shows it.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(db) => {
            let hint = db.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}: {}{hint}", db.code().code(), db.message())
        }
        None => error.to_string(),
    })?;
    let mut table = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table = vec![columns.iter().map(|c| c.name().to_owned()).collect()];
            }
            SimpleQueryMessage::Row(row) => {
                let cell = |i| row.get(i).unwrap_or_default().trim().to_owned();
                table.push((0..row.len()).map(cell).collect());
            }
            _ => {}
        }
    }
    Ok(table)
}

/// The statements in the ```sql blocks of a page and the tables in ```text blocks behind them.
fn steps_of(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines().enumerate().peekable();
    let mut after_sql = false;
    while let Some((number, line)) = lines.next() {
        let fence = line.trim_start();
        if !fence.starts_with("```") {
            after_sql &= fence.is_empty();
            continue;
        }
        let mut block = Vec::new();
        for (number, line) in lines.by_ref() {
            if line.trim_start().starts_with("```") {
                break;
            }
            block.push((number + 1, line));
        }
        match fence {
            "```sql" => steps.extend(statements(&block)),
            "```text" if after_sql => {
                let table = table(&block);
                if !table.is_empty() {
                    steps.push(Step::Expect { line: number + 1, table });
                }
            }
            _ => {}
        }
        after_sql = fence == "```sql";
    }
    steps
}

/// A statement ends with a line that ends with a semicolon.
fn statements(block: &[(usize, &str)]) -> Vec<Step> {
    let mut found = Vec::new();
    let mut sql = String::new();
    let mut start = 0;
    for (number, line) in block {
        let code = line.split("--").next().unwrap_or_default().trim_end();
        if sql.is_empty() {
            start = *number;
        }
        if sql.is_empty() && code.trim().is_empty() {
            continue;
        }
        sql.push_str(line);
        sql.push('\n');
        if code.ends_with(';') {
            found.push(Step::Run { line: start, sql: std::mem::take(&mut sql) });
        }
    }
    if !sql.is_empty() {
        found.push(Step::Run { line: start, sql });
    }
    found
}

/// A table as psql prints it: names, a line of dashes, rows. Empty if the block is none.
fn table(block: &[(usize, &str)]) -> Vec<Vec<String>> {
    let is_rule = |line: &str| line.contains("--") && line.trim().chars().all(|c| "-+".contains(c));
    if !block.get(1).is_some_and(|(_, line)| is_rule(line)) {
        return Vec::new();
    }
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    block
        .iter()
        .map(|(_, line)| *line)
        .filter(|line| !is_rule(line) && !line.trim().is_empty() && !line.starts_with('('))
        .map(cells)
        .collect()
}
