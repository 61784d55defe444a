//! Takes the aggregate calls out of a feature's expression.

use std::ops::ControlFlow;

use asofdb_sql::fold;
use asofdb_udfs::{Bound, Frame, Interval};
use datafusion::logical_expr::{Expr, ExprSchemable};
use sqlparser::ast::{
    self, DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, NullTreatment, VisitorMut, WindowSpec, WindowType,
};

use super::resolve::Resolver;
use super::{call_identifier, frame, local_call_name};
use crate::catalog::Source;
use crate::error::{Error, Result};
use crate::track::CallSpec;

/// Visits an expression and replaces each call by a column.
pub struct CallTaker<'a> {
    source: &'a Source,
    from: &'a asofdb_sql::From,
    /// How old the latest value may be.
    staleness: Option<Interval>,
    resolver: &'a Resolver<'a>,
    calls: Vec<CallSpec>,
    /// What the calls are partitioned by, where they say so.
    partition: Option<Vec<Expr>>,
}

impl<'a> CallTaker<'a> {
    /// A taker for the calls over a definition's source.
    pub fn new(
        source: &'a Source,
        from: &'a asofdb_sql::From,
        staleness: Option<Interval>,
        resolver: &'a Resolver<'a>,
    ) -> Self {
        CallTaker { source, from, staleness, resolver, calls: Vec::new(), partition: None }
    }

    /// The calls and what they are partitioned by.
    pub fn finish(self, feature: &str) -> Result<(Vec<CallSpec>, Option<Vec<Expr>>)> {
        if self.calls.is_empty() {
            return Err(Error::definition(format!("feature \"{feature}\" reads no event")));
        }
        Ok((self.calls, self.partition))
    }

    fn take(&mut self, call: CallSpec) -> ast::Expr {
        let index = self.calls.iter().position(|c| *c == call).unwrap_or_else(|| {
            self.calls.push(call);
            self.calls.len() - 1
        });
        call_identifier(index)
    }

    fn latest(&self) -> Frame {
        match self.staleness {
            None => Frame::latest(),
            Some(age) => Frame::Range { start: Bound::Preceding(age), end: Interval::ZERO },
        }
    }

    /// A plain column: its latest value.
    fn take_column(&mut self, column: &ast::Expr) -> Result<ast::Expr> {
        let argument = self.resolver.value(column)?;
        let call = self.bind("last_value", (false, false), Some(argument), None, self.latest())?;
        Ok(self.take(call))
    }

    fn take_function(&mut self, function: &Function) -> Result<ast::Expr> {
        let name = asofdb_sql::fold_name(&function.name).join(".");
        let (argument, distinct, inner_nulls) = self.arguments(&name, &function.args)?;
        let nulls = function.null_treatment.or(inner_nulls);
        let ignore_nulls = matches!(nulls, Some(NullTreatment::IgnoreNulls));
        if !function.within_group.is_empty() {
            return Err(Error::unsupported("WITHIN GROUP is not supported in a feature"));
        }
        let filter = function.filter.as_ref().map(|f| self.resolver.condition(f)).transpose()?;
        let frame = match &function.over {
            Some(over) => {
                let spec = self.window(over)?;
                self.note_partition(&spec)?;
                self.check_order(&spec)?;
                frame::frame(spec.window_frame.as_ref(), self.resolver)?
            }
            None if matches!(name.as_str(), "last_value" | "first_value") => self.latest(),
            None => {
                return Err(Error::Definition {
                    message: format!("{function} has no window"),
                    hint: Some(format!(
                        "Add OVER (RANGE INTERVAL '1 hour' PRECEDING), or for all events so far \
                         {name}(…) OVER (RANGE UNBOUNDED PRECEDING)."
                    )),
                });
            }
        };
        let call = self.bind(&name, (distinct, ignore_nulls), argument, filter, frame)?;
        Ok(self.take(call))
    }

    fn bind(
        &self,
        name: &str,
        (distinct, ignore_nulls): (bool, bool),
        argument: Option<Expr>,
        filter: Option<Expr>,
        frame: Frame,
    ) -> Result<CallSpec> {
        let data_type = argument.as_ref().map(|a| a.get_type(self.resolver.schema)).transpose()?;
        let aggregate = asofdb_udfs::bind(name, distinct, ignore_nulls, data_type.as_ref())?;
        let signature = format!("{name} distinct={distinct} ignore_nulls={ignore_nulls}");
        Ok(CallSpec { aggregate, signature, argument, filter, frame })
    }

    fn arguments(
        &self,
        name: &str,
        arguments: &FunctionArguments,
    ) -> Result<(Option<Expr>, bool, Option<NullTreatment>)> {
        let wrong = || Error::definition(format!("{name} takes one argument"));
        let FunctionArguments::List(list) = arguments else { return Err(wrong()) };
        let distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        let mut nulls = None;
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => nulls = Some(*treatment),
                other => {
                    return Err(Error::unsupported(format!("{name}(… {other}) is not supported")));
                }
            }
        }
        match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => Ok((None, distinct, nulls)),
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => {
                Ok((Some(self.resolver.value(argument)?), distinct, nulls))
            }
            _ => Err(wrong()),
        }
    }

    /// The window of a call, names resolved.
    fn window(&self, over: &WindowType) -> Result<WindowSpec> {
        match over {
            WindowType::NamedWindow(name) => self.named_window(name),
            WindowType::WindowSpec(spec) => match &spec.window_name {
                None => Ok(spec.clone()),
                Some(name) => {
                    let base = self.named_window(name)?;
                    let or = |own: &Option<_>, base: Option<_>| own.clone().or(base);
                    Ok(WindowSpec {
                        window_name: None,
                        partition_by: match spec.partition_by.is_empty() {
                            true => base.partition_by,
                            false => spec.partition_by.clone(),
                        },
                        order_by: match spec.order_by.is_empty() {
                            true => base.order_by,
                            false => spec.order_by.clone(),
                        },
                        window_frame: or(&spec.window_frame, base.window_frame),
                    })
                }
            },
        }
    }

    fn named_window(&self, name: &ast::Ident) -> Result<WindowSpec> {
        let found = self.from.windows.iter().find(|(known, _)| fold(known) == fold(name));
        match found {
            Some((_, spec)) => Ok(spec.clone()),
            None => Err(Error::definition(format!("window \"{name}\" does not exist"))),
        }
    }

    fn note_partition(&mut self, spec: &WindowSpec) -> Result<()> {
        if spec.partition_by.is_empty() {
            return Ok(());
        }
        let columns =
            spec.partition_by.iter().map(|c| self.resolver.value(c)).collect::<Result<Vec<_>>>()?;
        match &self.partition {
            Some(other) if *other != columns => {
                Err(Error::definition("all windows of a feature have the same PARTITION BY"))
            }
            _ => {
                self.partition = Some(columns);
                Ok(())
            }
        }
    }

    fn check_order(&self, spec: &WindowSpec) -> Result<()> {
        let time = self.source.schema.field(self.source.event_time).name();
        let by_time = |order: &ast::OrderByExpr| {
            let column = matches!(self.resolver.value(&order.expr),
                Ok(Expr::Column(column)) if column.name == *time);
            column && order.options.asc != Some(false)
        };
        match spec.order_by.as_slice() {
            [] => Ok(()),
            [order] if by_time(order) => Ok(()),
            _ => Err(Error::Definition {
                message: "the window of a feature is ordered by the event time".into(),
                hint: Some(format!("Write ORDER BY {time}, or leave it out.")),
            }),
        }
    }

    fn replacement(&mut self, expr: &ast::Expr) -> Result<Option<ast::Expr>> {
        match expr {
            ast::Expr::Function(function) => {
                let name = asofdb_sql::fold_name(&function.name).join(".");
                let known = asofdb_udfs::names().contains(&name.as_str());
                match known || function.over.is_some() {
                    true => self.take_function(function).map(Some),
                    false => Ok(None),
                }
            }
            ast::Expr::Identifier(ident) if self.is_taken(ident) => Ok(None),
            ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
                self.take_column(expr).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether this is the column of a call that was taken before.
    fn is_taken(&self, ident: &ast::Ident) -> bool {
        (0..self.calls.len()).any(|call| ident.value == local_call_name(call))
    }
}

impl VisitorMut for CallTaker<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        match self.replacement(expr) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(column)) => {
                *expr = column;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}
