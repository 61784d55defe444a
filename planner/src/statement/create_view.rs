//! `CREATE VIEW`.

use std::sync::Arc;

use asofdb_sql::{CreateView, fold};

use crate::catalog::document::check_name;
use crate::catalog::{Catalog, Relation, View};
use crate::database::{Database, Inner};
use crate::error::Result;
use crate::session::Outcome;

const TAG: &str = "CREATE VIEW";

/// Declares a view. Its query is planned once, so that a wrong one is refused here.
pub async fn run(database: &Database, create: &CreateView) -> Result<Outcome> {
    let inner = &database.inner;
    let _ddl = inner.writing()?.ddl.lock().await;
    let catalog = inner.catalog();
    let name = fold(&create.name);
    check_name(&name)?;
    if create.if_not_exists && catalog.relations.contains_key(&name) {
        return Ok(Outcome::notice(TAG, format!("relation \"{name}\" already exists, skipping")));
    }
    let mut next = catalog.as_ref().clone();
    let definition = CreateView { if_not_exists: false, or_replace: false, ..create.clone() };
    let view = View { name: name.clone(), definition };
    next.add(&name, Relation::View(Arc::new(view)), create.or_replace)?;
    plan(inner, &Arc::new(next.clone()), &name).await?;
    inner.publish_catalog(next)?;
    Ok(Outcome::done(TAG))
}

/// Plans a view under a catalog, to see whether it can be.
pub async fn plan(inner: &Arc<Inner>, catalog: &Arc<Catalog>, name: &str) -> Result<()> {
    let probe = format!("SELECT * FROM {}", asofdb_sql::ident(name));
    for parsed in asofdb_sql::parse(&probe)? {
        if let asofdb_sql::Statement::Query(query) = parsed.statement {
            inner.planning.plan_query(catalog, &query).await?;
        }
    }
    Ok(())
}
