//! What the API server takes at the edges of its types, the operator understands.

use mapa_refresh_crds::MapaRefreshPolicy;
use mapa_refresh_operator::admission::admit;
use mapa_refresh_tests::wait::Look;
use serde_json::{Value, json};

use crate::world::{ON_SCHEDULE_ALONE, Test, World};

pub const TESTS: &[Test] = &[
    (
        "edges::what_the_api_server_takes_is_understood_and_explain_judges_alike",
        edges,
    ),
    (
        "edges::i8_managed_fields_and_a_status_that_nobody_understands_stall_nothing",
        nonsense,
    ),
];

/// Answers of the API server, or what it says against.
type Answer = Result<Value, String>;

fn raw(world: &World, verb: &str, path: &str, body: &str) -> Answer {
    let answer = world.kubectl().with_input(&[verb, "--raw", path, "-f", "-"], body);
    answer
        .map(|text| serde_json::from_str(&text).unwrap())
        .map_err(|error| error.to_string())
}

/// A policy, of whose spec `fields` are JSON as it goes over the wire.
fn policy(fields: &[(&str, &str)]) -> String {
    let mut spec = vec![
        ("intervalMinutes", "10"),
        ("database", r#"{"secretRef":{"name":"d"}}"#),
        ("cache", r#"{"secretRef":{"name":"c"}}"#),
    ];
    spec.retain(|(name, _)| fields.iter().all(|(given, _)| given != name));
    spec.extend(fields);
    let spec: Vec<String> = spec.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!(
        r#"{{"apiVersion":"mapa.radar.dev/v1","kind":"MapaRefreshPolicy","metadata":{{"name":"edge","namespace":"default"}},"spec":{{{}}}}}"#,
        spec.join(",")
    )
}

fn edges(world: &World) {
    let until = |text: &str| ("suspendUntil", format!("{text:?}"));
    let plain = |name: &'static str, value: &str| (name, value.to_owned());
    let tasks = |task: &str| ("tasks", format!("[{task}]"));
    let taken = [
        until("2027-01-01T00:00:00Z"),
        until("2000-01-01T00:00:00Z"),
        until("2027-01-01T00:00:00.1Z"),
        until("2027-01-01T00:00:00.123456789-03:00"),
        until("2027-01-01T00:00:00+23:59"),
        until("2027-01-01T00:00:00-23:59"),
        until("2027-01-01T00:00:00-00:00"),
        until("2199-12-31T23:59:59.999999999Z"),
        until("2028-02-29T00:00:00Z"),
        plain("suspendUntil", "null"),
        plain("intervalMinutes", "30"),
        plain("downstreamCacheSeconds", "60.0"),
        plain("downstreamCacheSeconds", "6e1"),
        plain("maxDataAgeMinutes", "null"),
        plain("downstreamCacheSeconds", "-0.0"),
        plain("suspend", "null"),
        plain("rescue", "false"),
        plain("suspendReason", r#""a\u0000b\u001b[31m\u202e""#),
        plain("suspendReason", r#""\ud800""#),
        plain("suspendReason", "null"),
        plain("timeZone", r#""A+_-1/B/C""#),
        plain("area", r#""X-""#),
        plain("plausibility", "null"),
        plain("plausibility", "{}"),
        plain("plausibility", r#"{"maxDropPercent":null,"maxDropOutages":1000000}"#),
        plain("database", r#"{"kind":null,"secretRef":{"name":"d"},"columns":{}}"#),
        plain(
            "database",
            r#"{"secretRef":{"name":"d"},"columns":{"id":null,"causa":"C$#_"}}"#,
        ),
        plain("cache", r#"{"secretRef":{"name":"a.b-c.0"},"keyPrefix":"0:_-"}"#),
        plain("tasks", "null"),
        tasks(r#"{"name":"health-check","maxRetries":null,"retryDelaySeconds":0,"attemptTimeoutSeconds":1500}"#),
        tasks(
            r#"{"name":"health-check"},{"name":"refresh-mv-portal"},{"name":"refresh-mapa-cache"},{"name":"calcular-estatisticas"}"#,
        ),
    ];
    let refused = [
        until("9999-12-31T23:59:59Z"),
        until("9999-12-30T21:59:59Z"),
        until("2200-01-01T00:00:00Z"),
        until("2200-01-01T00:00:00+00:01"),
        until("1999-12-31T23:59:59Z"),
        until("0000-01-01T00:00:00+23:59"),
        until("2027-01-01t00:00:00z"),
        until("2027-01-01 00:00:00Z"),
        until("2027-01-01T00:00:00"),
        until("2027-01-01T00:00:00x5Z"),
        until("2027-01-01T00:00:00.1234567890Z"),
        until("2027-01-01T00:00:00+99:99"),
        until("2027-01-01T00:00:00+24:00"),
        until("2027-01-01T00:00:00Ztomorrow"),
        until("2027-01-01T00:00:00Z[UTC]"),
        until("2027-01-01T00:00:60Z"),
        until("2027-01-01T24:00:00Z"),
        until("2027-02-29T00:00:00Z"),
        until("+002027-01-01T00:00:00Z"),
        until(""),
        plain("suspendUntil", "0"),
        plain("intervalMinutes", "10.0"),
        plain("intervalMinutes", "10.5"),
        plain("intervalMinutes", "31"),
        plain("intervalMinutes", "2147483648"),
        plain("intervalMinutes", "9223372036854775808"),
        plain("intervalMinutes", "1e30"),
        plain("intervalMinutes", "-9223372036854775808"),
        plain("intervalMinutes", r#""10""#),
        plain("downstreamCacheSeconds", "9223372036854775807"),
        plain("suspend", r#""true""#),
        plain("rescue", "1"),
        plain("plausibility", "[]"),
        plain("database", "{}"),
        plain("database", r#"{"kind":"","secretRef":{"name":"d"}}"#),
        plain("cache", r#"{"secretRef":{"name":null}}"#),
        plain("tasks", "[null]"),
        plain("tasks", "{}"),
        tasks(r#"{"name":"health-check"},{"name":"health-check"}"#),
        tasks(r#"{"name":"Health-Check"}"#),
        tasks(r#"{"name":"health-check","maxRetries":4294967296}"#),
    ];
    let path = "/apis/mapa.radar.dev/v1/namespaces/default/maparefreshpolicies?dryRun=All";
    let mut wrong = Vec::new();
    let cases = taken.iter().map(|case| (case, true));
    for ((name, value), is_taken) in cases.chain(refused.iter().map(|case| (case, false))) {
        let manifest = policy(&[(name, value)]);
        let answer = raw(world, "create", path, &manifest);
        // What kubectl would read of the same file: Go writes a whole number as one.
        let written = answer
            .clone()
            .unwrap_or_else(|_| serde_json::from_str(&manifest).unwrap());
        let judged = admit(written, "default").map(|admitted| admitted.policy.spec);
        match (&answer, is_taken) {
            (Ok(stored), true) => match serde_json::from_value::<MapaRefreshPolicy>(stored.clone()) {
                Ok(policy) if judged.as_ref() == Ok(&policy.spec) => {}
                Ok(_) => wrong.push(format!("{name} {value}: explain says {judged:?}")),
                Err(error) => wrong.push(format!("{name} {value}: not understood: {error}")),
            },
            (Err(_), false) if judged.is_err() => {}
            (Err(_), false) => wrong.push(format!("{name} {value}: refused, and admitted by explain")),
            _ => wrong.push(format!("{name} {value}: {answer:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Puts an entry with a moment that no type of ours holds into the managed fields of the object at `path`: somebody owns `field` of its spec.
fn make_odd(world: &World, path: &str, field: &str) {
    let mut object: Value = serde_json::from_str(&world.kubectl().run(["get", "--raw", path]).unwrap()).unwrap();
    let entry = json!({
        "manager": "somebody", "operation": "Update", "apiVersion": object["apiVersion"], "fieldsType": "FieldsV1",
        "time": "9999-12-31T23:59:59Z", "fieldsV1": { "f:spec": { format!("f:{field}"): {} } },
    });
    object["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
    let stored = raw(world, "replace", path, &object.to_string()).unwrap();
    assert!(
        stored["metadata"]["managedFields"].to_string().contains("9999-12-31"),
        "the API server takes it: {stored}"
    );
}

fn nonsense(world: &World) {
    let mut tenant = world.tenant("nonsense");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    make_odd(
        world,
        "/apis/mapa.radar.dev/v1/namespaces/nonsense/maparefreshpolicies/roraima",
        "area",
    );
    make_odd(
        world,
        "/apis/batch/v1/namespaces/nonsense/cronjobs/roraima-refresh-mapa-cache",
        "schedule",
    );
    // The watches go on, and so does an operator that lists everything anew.
    for name in ["acre", "amapa"] {
        tenant.apply(name, ON_SCHEDULE_ALONE);
        tenant.wait_for_condition(name, "Ready", "True", "Reconciled");
        let suspend = [
            "patch",
            "cronjob",
            "roraima-refresh-mapa-cache",
            "-p",
            r#"{"spec":{"suspend":true}}"#,
        ];
        tenant.run(&suspend);
        tenant.wait("the CronJob to be put back", || {
            let cron_job = tenant.json(&["get", "cronjob", "roraima-refresh-mapa-cache"]);
            Look::when(cron_job["spec"]["suspend"] == false, cron_job).map(drop)
        });
        tenant.kill_operator();
        tenant.start_operator();
    }

    // A moment that the schema of the status takes, and that no type of ours holds.
    let garbage = r#"{"status":{"dataAsOf":"9999-12-31T23:59:59Z","lastSuccessTime":"2026-01-01T00:00:00x5Z"}}"#;
    tenant.run(&[
        "patch",
        "mapa-refresh",
        "roraima",
        "--subresource=status",
        "--type=merge",
        "-p",
        garbage,
    ]);
    tenant.wait("a status without it", || {
        let policy = tenant.policy("roraima");
        let status = &policy["status"];
        let is_mended = status["dataAsOf"].is_null() && status["lastSuccessTime"].is_null();
        Look::when(is_mended, policy.clone()).map(drop)
    });
    tenant.wait_for_condition("roraima", "Ready", "True", "Reconciled");
    let note = tenant.wait("an Event", || {
        let events = tenant.json(&["get", "events", "--field-selector", "reason=StatusLost"]);
        match events["items"].get(0) {
            Some(event) => Look::Met(event["message"].as_str().unwrap_or_default().to_owned()),
            None => Look::Saw(tenant.log()),
        }
    });
    assert!(note.contains("status.dataAsOf"), "{note}");
}
