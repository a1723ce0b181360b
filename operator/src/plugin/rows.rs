//! Pure: the rows that the API server prints itself, by the CRD's columns. Of thousands of policies they are a twelfth of the bytes, and
//! much less work for the API server: the objects' own JSON is what a list costs.
//!
//! [Receiving resources as Tables](https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables), without the
//! objects (`includeObject=None`).

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    brief::{BriefFacts, Limit, Said, Word},
    policies::PageMeta,
    terminal::harmless,
};
use crate::schedule::{Interval, default_schedules};

/// What to accept, so that the answer is rows.
pub const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The columns that are read, by their names in the CRD; in the order in which [`told`] and [`whole`] take their cells.
const COLUMNS: [&str; 15] = [
    "Namespace",
    "Name",
    "Compliant",
    "Reason",
    "Message",
    "Compliant-Until",
    "Data-Time",
    "Max-Age",
    "Downstream",
    "Ready",
    "At-Risk",
    "Suspend",
    "Worst-Age",
    "Interval",
    "First-Task",
];

/// A page of rows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: String,
    /// By what the next page is asked for.
    pub metadata: PageMeta,
    #[serde(default)]
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
}

/// A policy as its row tells it.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are large")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Everything that a brief says.
    Whole(BriefFacts),
    /// That there is more to be said than the row has room for: namespace and name.
    InPart(String, String),
}

impl Table {
    /// What the rows tell, in their order; none, when these are no rows, or of a CRD with other columns.
    #[must_use]
    pub fn read(&self) -> Option<Vec<Told>> {
        if self.kind != "Table" {
            return None;
        }
        let mut positions = [0; COLUMNS.len()];
        for (position, wanted) in positions.iter_mut().zip(COLUMNS) {
            *position = self
                .column_definitions
                .iter()
                .position(|column| column.name == wanted)?;
        }
        self.rows
            .iter()
            .map(|row| told(positions.map(|position| row.cells.get(position))))
            .collect()
    }
}

/// Reads one row. None: it does not even say of which policy it is.
fn told(cells: [Option<&Value>; COLUMNS.len()]) -> Option<Told> {
    let [namespace, name, rest @ ..] = cells;
    let (namespace, name) = (namespace?.as_str()?, name?.as_str()?);
    Some(match whole(namespace, name, rest) {
        Some(facts) => Told::Whole(facts),
        None => Told::InPart(namespace.to_owned(), name.to_owned()),
    })
}

/// What the row says of its policy, if that is all that there is to say. Rows have no reasons and no messages of Ready and AtRisk, no day on
/// which a suspended policy resumes, and no list of tasks.
fn whole(namespace: &str, name: &str, cells: [Option<&Value>; COLUMNS.len() - 2]) -> Option<BriefFacts> {
    let [
        compliant,
        reason,
        message,
        until,
        as_of,
        max_age,
        downstream,
        ready,
        at_risk,
        suspend,
        worst,
        interval,
        first_task,
    ] = cells;
    let is = |cell: Option<&Value>, word: &str| cell.and_then(Value::as_str) == Some(word);
    let facts = BriefFacts {
        namespace: harmless(namespace),
        name: harmless(name),
        limit: Limit::of(number(max_age)?, number(downstream)?),
        compliant: Said {
            status: Word::read(compliant?.as_str()?),
            reason: harmless(reason?.as_str()?),
            message: harmless(message?.as_str()?),
        },
        ready: None,
        at_risk: None,
        suspended: suspend?.as_bool()?,
        data_as_of: moment(as_of)?,
        compliant_until: moment(until)?,
        worst_data_age_seconds: optional(worst, Value::as_i64)?,
        schedules: default_schedules(namespace, name, Interval::clamped(number(interval)?)),
    };
    // One that is not ready may have other slots, or none.
    let more = facts.suspended
        || is(ready, "False")
        || is(at_risk, "True") && facts.compliant.status == Word::True
        || !first_task?.is_null();
    (!more).then_some(facts)
}

fn number(cell: Option<&Value>) -> Option<i32> {
    cell?.as_i64()?.try_into().ok()
}

/// A cell that may be empty. The outer None: it is neither that nor what is wanted.
fn optional<T>(cell: Option<&Value>, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match cell? {
        Value::Null => Some(None),
        value => read(value).map(Some),
    }
}

fn moment(cell: Option<&Value>) -> Option<Option<Timestamp>> {
    optional(cell, |cell| cell.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use mapa_refresh_crds::MapaRefreshPolicy;
    use serde_json::json;

    use super::*;
    use crate::plugin::{brief::Brief, policies::Listed, standing::Facts};

    const NOW: &str = "2026-11-23T10:01:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn policy() -> Value {
        let said = |type_: &str, status: &str| json!({ "type": type_, "status": status, "reason": format!("{type_}{status}"), "message": format!("of {type_}"), "lastTransitionTime": NOW });
        json!({
            "metadata": { "name": "roraima", "namespace": "radar" },
            "spec": {
                "intervalMinutes": 10, "maxDataAgeMinutes": 30, "downstreamCacheSeconds": 60, "suspend": false,
                "database": { "kind": "postgresql", "secretRef": { "name": "d" } },
                "cache": { "secretRef": { "name": "c" } },
            },
            "status": {
                "dataAsOf": "2026-11-23T10:00:00Z",
                "compliantUntil": "2026-11-23T10:29:00Z",
                "compliance": {
                    "since": NOW, "accountedUntil": NOW, "settled": { "until": NOW },
                    "worstDataAgeSeconds": 700, "breaches": 0, "secondsInBreach": 0,
                },
                "conditions": [said("Ready", "True"), said("Compliant", "True"), said("AtRisk", "False")],
            },
        })
    }

    /// The API server's part: what each column's path of the CRD finds in `policy`.
    fn table(policy: &Value) -> Table {
        let crd = MapaRefreshPolicy::crd();
        let columns = crd.spec.versions[0].additional_printer_columns.clone().unwrap();
        let mut definitions = vec![json!({ "name": "Name" })];
        let mut cells = vec![policy["metadata"]["name"].clone()];
        for column in columns {
            definitions.push(json!({ "name": column.name }));
            cells.push(found(policy, &column.json_path));
        }
        let table = json!({ "kind": "Table", "metadata": {}, "columnDefinitions": definitions, "rows": [{ "cells": cells, "object": null }] });
        serde_json::from_value(table).unwrap()
    }

    fn found(policy: &Value, path: &str) -> Value {
        let Some((_, condition)) = path.split_once("(@.type==\"") else {
            let pointer = path.replace("[0]", "/0").replace('.', "/");
            return policy.pointer(&pointer).cloned().unwrap_or_default();
        };
        let (type_, field) = condition.split_once("\")].").unwrap();
        let conditions = policy["status"]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .find(|condition| condition["type"] == type_)
            .map_or(Value::Null, |condition| condition[field].clone())
    }

    fn read(policy: &Value) -> Told {
        let told = table(policy).read().unwrap();
        assert_eq!(told.len(), 1);
        told.into_iter().next().unwrap()
    }

    fn in_part() -> Told {
        Told::InPart("radar".to_owned(), "roraima".to_owned())
    }

    fn changed(pointer: &str, value: Value) -> Value {
        let mut policy = policy();
        *policy.pointer_mut(pointer).unwrap() = value;
        policy
    }

    #[test]
    fn a_row_tells_what_the_object_tells() {
        let condition =
            |position: usize, status: &str| changed(&format!("/status/conditions/{position}/status"), status.into());
        let mut without_data = condition(1, "False");
        for field in ["dataAsOf", "compliantUntil", "compliance"] {
            without_data["status"].as_object_mut().unwrap().remove(field);
        }
        let policies = [
            policy(),
            condition(1, "False"),
            condition(1, "Unknown"),
            condition(0, "Unknown"),
            changed("/spec/maxDataAgeMinutes", 2.into()),
            changed("/spec/maxDataAgeMinutes", 1.into()),
            changed("/status/conditions/1/message", "\u{1b}[2Jgone".into()),
            without_data,
            changed("/status/compliantUntil", "2026-11-23T10:00:59Z".into()),
            changed("/spec/intervalMinutes", 25.into()),
        ];
        for policy in policies {
            let Told::Whole(row) = read(&policy) else {
                panic!("in part: {policy}");
            };
            // At once, after a slot, after the proof, and hours later.
            for now in [
                NOW,
                "2026-11-23T10:09:00Z",
                "2026-11-23T10:29:01Z",
                "2026-11-23T18:00:30Z",
            ] {
                let whole = Facts::of(&Listed::of(policy.clone()), at(now)).brief;
                let (row, whole) = (row.at(at(now)), whole.at(at(now)));
                let without_what_why_not_does_not_say = |brief: &Brief<'_>| {
                    let mut brief = serde_json::to_value(brief).unwrap();
                    brief
                        .as_object_mut()
                        .unwrap()
                        .retain(|field, _| field != "ready" && field != "atRisk");
                    brief
                };
                assert_eq!(
                    without_what_why_not_does_not_say(&row),
                    without_what_why_not_does_not_say(&whole)
                );
                assert_eq!(row.why_not(), whole.why_not());
            }
        }
    }

    #[test]
    fn what_a_row_has_no_room_for_is_not_left_out() {
        let not_ready = changed("/status/conditions/0/status", "False".into());
        let at_risk = changed("/status/conditions/2/status", "True".into());
        let suspended = changed("/spec/suspend", true.into());
        let unseen = changed("/status", json!({ "observedGeneration": -1, "conditions": [] }));
        let mut with_tasks = policy();
        with_tasks["spec"]["tasks"] = json!([{ "name": "refresh-mapa-cache" }]);
        for policy in [not_ready, at_risk, suspended, unseen, with_tasks] {
            assert_eq!(read(&policy), in_part(), "{policy}");
        }
    }

    #[test]
    fn a_policy_that_is_not_compliant_needs_no_more_than_that() {
        let mut policy = changed("/status/conditions/1/status", "False".into());
        policy["status"]["conditions"][2]["status"] = "True".into();
        let Told::Whole(facts) = read(&policy) else { panic!() };
        assert_eq!(
            facts.at(at(NOW)).why_not(),
            Some(("CompliantTrue".into(), "of Compliant"))
        );
    }

    #[test]
    fn cells_of_another_type_are_not_believed() {
        for (pointer, value) in [
            ("/status/dataAsOf", json!(7)),
            ("/status/dataAsOf", json!("yesterday")),
            ("/spec/maxDataAgeMinutes", json!("30")),
            ("/spec/maxDataAgeMinutes", json!(i64::MAX)),
            ("/spec/suspend", json!("false")),
            ("/status/conditions/1/reason", json!(null)),
        ] {
            assert_eq!(read(&changed(pointer, value)), in_part(), "{pointer}");
        }
    }

    #[test]
    fn what_is_no_table_or_one_of_another_crd_is_not_read() {
        let list = json!({ "kind": "MapaRefreshPolicyList", "metadata": {}, "items": [policy()] });
        assert_eq!(serde_json::from_value::<Table>(list).unwrap().read(), None);
        for missing in COLUMNS {
            let mut table = table(&policy());
            table.column_definitions.retain(|column| column.name != missing);
            assert_eq!(table.read(), None, "{missing}");
        }
        let mut short = table(&policy());
        short.rows[0].cells.truncate(1);
        assert_eq!(short.read(), None);
    }
}
