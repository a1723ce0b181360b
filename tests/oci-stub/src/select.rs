//! SELECTs over one relation: parsed in Oracle's dialect, evaluated naively.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use sqlparser::{
    ast::{
        BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
        OrderByKind, SelectItem, SetExpr, Statement, TableFactor, Value as Literal,
    },
    dialect::OracleDialect,
    parser::Parser,
};

use crate::{
    protocol::Ora,
    value::{Column, Kind, Value},
    world::{Rows, View, World},
};

/// What a read-only transaction sees: every relation as it was when it began.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(HashMap<(String, String), View>);

impl Snapshot {
    pub(crate) fn of(world: &World) -> Self {
        Self(world.views.clone())
    }
}

/// Owner and name of `text`, `[OWNER.]NAME`, each quoted or not.
pub(crate) fn relation(text: &str, user: &str) -> (String, String) {
    let part = |text: &str| match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => quoted.to_owned(),
        None => text.to_ascii_uppercase(),
    };
    match text.split_once('.') {
        Some((owner, name)) => (part(owner), part(name)),
        None => (user.to_owned(), part(text)),
    }
}

/// Columns and rows of `sql`, for `user`.
pub(crate) fn run(
    sql: &str,
    binds: &[Value],
    user: &str,
    world: &World,
    snapshot: Option<&Snapshot>,
) -> Result<(Vec<Column>, Rows), Ora> {
    let unknown = |what: &str| Ora::new(900, &format!("the OCI stub does not know {what} in: {sql}"));
    let mut statements = Parser::parse_sql(&OracleDialect {}, sql)
        .map_err(|error| Ora::new(923, &format!("FROM keyword not found where expected ({error})")))?;
    let Some(Statement::Query(query)) = statements.pop().filter(|_| statements.is_empty()) else {
        return Err(unknown("this statement"));
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Err(unknown("this query"));
    };
    let [from] = select.from.as_slice() else {
        return Err(unknown("more than one relation"));
    };
    let TableFactor::Table { name, alias, .. } = &from.relation else {
        return Err(unknown("this relation"));
    };
    let alias = alias.as_ref().map(|alias| ident(&alias.name));
    let table = find(name, user, world, snapshot)?;
    let scope = Scope {
        table: &table,
        alias: alias.as_deref(),
        binds,
        user,
        world,
    };

    let mut rows: Vec<&Vec<Value>> = Vec::new();
    for row in table.rows.iter() {
        let keep = match &select.selection {
            None => true,
            Some(condition) => scope.holds(condition, row)?,
        };
        if keep {
            rows.push(row);
        }
    }
    if let Some(order) = &query.order_by {
        let OrderByKind::Expressions(keys) = &order.kind else {
            return Err(unknown("this ORDER BY"));
        };
        let columns: Vec<usize> = keys
            .iter()
            .map(|key| scope.column(&key.expr))
            .collect::<Result<_, _>>()?;
        rows.sort_by(|a, b| {
            columns
                .iter()
                .map(|at| compare(&a[*at], &b[*at]))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
    }

    let items: Vec<(&Expr, Option<String>)> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Ok((expr, None)),
            SelectItem::ExprWithAlias { expr, alias } => Ok((expr, Some(ident(alias)))),
            _ => Err(unknown("this item")),
        })
        .collect::<Result<_, _>>()?;
    if let [(Expr::Function(function), _)] = items.as_slice()
        && last(&function.name).as_deref() == Some("COUNT")
    {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        return Ok((
            vec![Column::new("COUNT(*)", Kind::Number)],
            Arc::new(vec![vec![Value::int(count)]]),
        ));
    }
    let mut columns = Vec::new();
    for (expr, alias) in &items {
        let (name, kind) = scope.describe(expr)?;
        columns.push(Column {
            name: alias.clone().unwrap_or(name),
            kind,
        });
    }
    let places: Option<Vec<usize>> = items.iter().map(|(expr, _)| scope.column(expr).ok()).collect();
    let rows: Vec<Vec<Value>> = match places {
        // Nothing but columns, as of the view: fast for a hundred thousand rows.
        Some(places) => rows
            .iter()
            .map(|row| places.iter().map(|at| row[*at].clone()).collect())
            .collect(),
        None => rows
            .iter()
            .map(|row| items.iter().map(|(expr, _)| scope.value(expr, row)).collect())
            .collect::<Result<_, _>>()?,
    };
    Ok((columns, Arc::new(rows)))
}

struct Table {
    columns: Vec<Column>,
    rows: Rows,
}

fn find(name: &ObjectName, user: &str, world: &World, snapshot: Option<&Snapshot>) -> Result<Table, Ora> {
    let views = snapshot.map_or(&world.views, |snapshot| &snapshot.0);
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| match part {
            ObjectNamePart::Identifier(name) => Some(ident(name)),
            ObjectNamePart::Function(_) => None,
        })
        .collect();
    let (owner, name) = match parts.as_slice() {
        [name] => (user.to_owned(), name.clone()),
        [owner, name] => (owner.clone(), name.clone()),
        _ => return Err(Ora::new(942, "table or view does not exist")),
    };
    if let Some(view) = views.get(&(owner, name.clone())) {
        return Ok(Table {
            columns: view.columns.clone(),
            rows: Arc::clone(&view.rows),
        });
    }
    let text = |name| Column::new(name, Kind::Varchar2(128));
    match name.as_str() {
        "DUAL" => Ok(Table {
            columns: vec![Column::new("DUMMY", Kind::Varchar2(1))],
            rows: Arc::new(vec![vec![Value::text("X")]]),
        }),
        "ALL_MVIEWS" => {
            let columns = vec![
                text("OWNER"),
                text("MVIEW_NAME"),
                Column::new("LAST_REFRESH_DATE", Kind::Date),
                text("STALENESS"),
            ];
            let rows = views
                .iter()
                .filter(|(_, view)| view.is_materialized)
                .map(|((owner, name), view)| {
                    vec![
                        Value::text(owner),
                        Value::text(name),
                        view.last_refresh.map_or(Value::Null, Value::Local),
                        Value::text(if view.last_refresh.is_some() {
                            "FRESH"
                        } else {
                            "UNUSABLE"
                        }),
                    ]
                });
            Ok(Table {
                columns,
                rows: Arc::new(rows.collect()),
            })
        }
        "ALL_TAB_COLUMNS" => {
            let columns = vec![text("OWNER"), text("TABLE_NAME"), text("COLUMN_NAME")];
            let rows = views.iter().flat_map(|((owner, name), view)| {
                view.columns
                    .iter()
                    .map(move |column| vec![Value::text(owner), Value::text(name), Value::text(&column.name)])
            });
            Ok(Table {
                columns,
                rows: Arc::new(rows.collect()),
            })
        }
        _ => Err(Ora::new(942, "table or view does not exist")),
    }
}

struct Scope<'a> {
    table: &'a Table,
    alias: Option<&'a str>,
    binds: &'a [Value],
    user: &'a str,
    world: &'a World,
}

impl Scope<'_> {
    /// Place of the column that `expr` names.
    fn column(&self, expr: &Expr) -> Result<usize, Ora> {
        let name = match expr {
            Expr::Identifier(name) => ident(name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [alias, name] if Some(ident(alias).as_str()) == self.alias => ident(name),
                _ => return Err(Ora::new(904, &format!("{expr}: invalid identifier"))),
            },
            _ => return Err(Ora::new(904, &format!("{expr}: invalid identifier"))),
        };
        let found = self.table.columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| Ora::new(904, &format!("\"{name}\": invalid identifier")))
    }

    fn describe(&self, expr: &Expr) -> Result<(String, Kind), Ora> {
        if let Some((value, kind)) = self.environment(expr) {
            let _ = value;
            return Ok((expr.to_string().to_ascii_uppercase(), kind));
        }
        let column = self.table.columns.get(self.column(expr)?).cloned();
        column
            .map(|column| (column.name, column.kind))
            .ok_or_else(|| Ora::new(904, "invalid identifier"))
    }

    /// What the session, not a row, has the value of.
    fn environment(&self, expr: &Expr) -> Option<(Value, Kind)> {
        match expr {
            Expr::Identifier(name) if name.quote_style.is_none() => match ident(name).as_str() {
                "SYSTIMESTAMP" => {
                    let now = self.world.now();
                    let east = i16::try_from(now.offset().local_minus_utc() / 60).unwrap_or(0);
                    Some((Value::Zoned(now.naive_local(), east), Kind::TimestampTz))
                }
                "SYSDATE" => Some((Value::Local(self.world.sysdate()), Kind::Date)),
                "USER" => Some((Value::text(self.user), Kind::Varchar2(128))),
                _ => None,
            },
            Expr::Function(function) if last(&function.name).as_deref() == Some("SYS_CONTEXT") => {
                let FunctionArguments::List(list) = &function.args else {
                    return None;
                };
                let arguments: Vec<Value> = list
                    .args
                    .iter()
                    .map(|argument| match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.constant(expr),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                (arguments == [Value::text("USERENV"), Value::text("CURRENT_SCHEMA")])
                    .then(|| (Value::text(self.user), Kind::Varchar2(128)))
            }
            _ => None,
        }
    }

    fn constant(&self, expr: &Expr) -> Option<Value> {
        let Expr::Value(value) = expr else { return None };
        match &value.value {
            Literal::SingleQuotedString(text) => Some(Value::text(text)),
            Literal::Number(number, _) => Some(Value::Number(number.to_string())),
            Literal::Placeholder(name) => {
                let at: usize = name.trim_start_matches(':').parse().ok()?;
                self.binds.get(at.checked_sub(1)?).cloned()
            }
            _ => None,
        }
    }

    fn value(&self, expr: &Expr, row: &[Value]) -> Result<Value, Ora> {
        if let Some((value, _)) = self.environment(expr) {
            return Ok(value);
        }
        if let Some(value) = self.constant(expr) {
            return Ok(value);
        }
        if let Some(text) = upper(expr) {
            return Ok(match self.value(text, row)? {
                Value::Text(bytes) => Value::Text(bytes.to_ascii_uppercase()),
                other => other,
            });
        }
        Ok(row.get(self.column(expr)?).cloned().unwrap_or(Value::Null))
    }

    fn holds(&self, condition: &Expr, row: &[Value]) -> Result<bool, Ora> {
        match condition {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => Ok(self.holds(left, row)? && self.holds(right, row)?),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => {
                let (left, right) = (self.value(left, row)?, self.value(right, row)?);
                Ok(left != Value::Null && left == right)
            }
            _ => Err(Ora::new(
                900,
                &format!("the OCI stub does not know this condition: {condition}"),
            )),
        }
    }
}

/// The argument of `UPPER(…)`.
fn upper(expr: &Expr) -> Option<&Expr> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(text))] if last(&function.name).as_deref() == Some("UPPER") => {
            Some(text)
        }
        _ => None,
    }
}

fn ident(name: &Ident) -> String {
    if name.quote_style.is_some() {
        name.value.clone()
    } else {
        name.value.to_ascii_uppercase()
    }
}

fn last(name: &ObjectName) -> Option<String> {
    match name.0.last() {
        Some(ObjectNamePart::Identifier(name)) => Some(ident(name)),
        _ => None,
    }
}

/// As ORDER BY does: nulls last.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Number(x), Value::Number(y)) => {
            // Whole numbers beyond 2^53 first: a double would call neighbours equal.
            match (x.parse::<i64>(), y.parse::<i64>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
            }
        }
        (Value::Text(x), Value::Text(y)) => x.cmp(y),
        (Value::Local(x), Value::Local(y)) => x.cmp(y),
        (Value::Zoned(x, east), Value::Zoned(y, other)) => {
            let utc = |local: &chrono::NaiveDateTime, east: i16| *local - chrono::Duration::minutes(i64::from(east));
            utc(x, *east).cmp(&utc(y, *other))
        }
        _ => Ordering::Equal,
    }
}
