//! Oracle: the genuine crate and the genuine ODPI-C in the runner's process, over the OCI stub, which is not Oracle.

use std::{collections::BTreeMap, fs, net::IpAddr, sync::Arc, time::Duration};

use chrono::{NaiveDate, NaiveDateTime};
use mapa_refresh_crds::report::{FaultClass, SuccessKind};
use mapa_refresh_job_runner::database::ora;
use oci_stub::{
    portal::{self, outage},
    protocol::Ora,
    server::Server,
    value::{Kind, Value},
    world::{Effect, Fault, Logon, Point, Procedure},
};

use crate::world::{DATABASE_PASSWORD, Run, Runner, Site, generation};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";
const USER: &str = "mapa_refresh";

/// A run may take so much longer than its limits.
const GRACE: Duration = Duration::from_secs(5);

/// A world whose database is the OCI stub.
struct Oracle {
    site: Site,
    server: Server,
}

impl Oracle {
    fn new() -> Self {
        let database = portal::database(USER, DATABASE_PASSWORD);
        let server = Server::start(IpAddr::from([127, 0, 0, 1]), database).unwrap();
        let site = Site::new();
        fs::create_dir(site.path("client")).unwrap();
        oci_stub::install(&site.path("client")).unwrap();
        let oracle = Self { site, server };
        oracle.secret(&[]);
        oracle
    }

    fn url(&self) -> String {
        format!("oracle://{}/RADAR", self.server.address())
    }

    /// The database's Secret, with `keys` instead of its own.
    fn secret(&self, keys: &[(&str, &str)]) {
        let url = self.url();
        let mut all = vec![
            ("url", url.as_str()),
            ("username", USER),
            ("password", DATABASE_PASSWORD),
        ];
        for (key, value) in keys {
            all.retain(|(own, _)| own != key);
            if !value.is_empty() {
                all.push((key, value));
            }
        }
        self.site.secret("database", &all);
    }

    fn runner(&self, task: &str) -> Runner {
        let client = self.site.path("client");
        self.site
            .runner(task)
            .env("MAPA_DATABASE_KIND", "oracle")
            .env("LD_LIBRARY_PATH", &client.display().to_string())
    }

    /// Rows that the view's query would yield now.
    fn source(&self, rows: Vec<Vec<Value>>) {
        self.server
            .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").source = Arc::new(rows));
    }

    fn fault(&self, fault: Fault) {
        self.server.world(|world| world.faults.push(fault));
    }

    fn local_time(&self) -> NaiveDateTime {
        self.server.world(|world| world.sysdate())
    }
}

#[test]
fn a_refresh_fills_the_view_and_what_it_holds_is_published() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(90);
    oracle.source(vec![outage(1, start), outage(2, start)]);
    let refreshed = oracle.runner(VIEW).run().success();
    assert_eq!((refreshed.kind, refreshed.records), (SuccessKind::Refreshed, 2));
    assert!((0.0..5.0).contains(&refreshed.age_seconds), "{refreshed:?}");
    let published = oracle.runner(MAP).run().success();
    assert_eq!((published.kind, published.records), (SuccessKind::Published, 2));
    assert_eq!(generation(&published), generation(&refreshed));
    let map = oracle.site.document("mapa:interrupcoes").unwrap();
    let item = &map["interrupcoes"][0];
    assert_eq!(item["bairro"], "São Vicente");
    assert_eq!(item["coordenadas"]["longitude"], -60.6758);
    assert_eq!(item["status"], "EM_EXECUCAO");
    assert_eq!(item["duracaoMinutos"], 90);
    assert_eq!(
        item["dataInicio"].as_str().unwrap(),
        format!("{}-04:00", start.format("%Y-%m-%dT%H:%M:%S"))
    );
    oracle.runner(STATISTICS).run().success();
    assert_eq!(
        oracle.site.document("mapa:estatisticas").unwrap()["total_ucs_afetadas"],
        20
    );
    assert_eq!(oracle.runner("health-check").run().success().kind, SuccessKind::Healthy);
}

/// Retries of a run that is expected to fail.
fn retrying(runner: Runner) -> Runner {
    runner.env("MAPA_MAX_RETRIES", "1").env("MAPA_RETRY_DELAY_SECONDS", "0")
}

#[test]
fn f32_each_number_has_its_class_wherever_it_is_raised() {
    let oracle = Oracle::new();
    oracle.runner(VIEW).run().success();
    let transient = "22 28 31 45 378 602 603 609 1012 1041 1043 1089 1092 2396 3113 3114 3122 3135 12153 12537 12547 12570 12583 27146 28511 \
                     56600 12170 12541 12514 12516 12518 12519 12520 12528 12571 1033 1034 1090 54 60 1555 2049 4020 4021 4061 4068 8177 3136 3156";
    let permanent = "1017 28000 28001 1045 942 904 918 1031 6550 23401 12154";
    // What the table has beyond the lists that were agreed upon: a break, names of hosts, and what a Secret can have wrong.
    let beyond = "1013 12543 12545 1005 12533 28759 29024";
    let points = [Point::Attach, Point::Begin, Point::Execute, Point::Fetch, Point::Commit];
    let numbers = |text: &'static str, class| {
        text.split_whitespace()
            .map(move |number| (number.parse::<i32>().unwrap(), class))
    };
    let all: Vec<_> = numbers(transient, FaultClass::Transient)
        .chain(numbers(permanent, FaultClass::Permanent))
        .collect();
    let table: BTreeMap<i32, FaultClass> = ora::TABLE
        .iter()
        .map(|(number, class, _)| (i32::try_from(*number).unwrap(), *class))
        .collect();
    let beyond = beyond.split_whitespace().map(|number| number.parse().unwrap());
    let all: BTreeMap<i32, FaultClass> = all
        .into_iter()
        .chain(beyond.map(|number: i32| (number, table[&number])))
        .collect();
    assert_eq!(
        all, table,
        "every number of the table is raised below, with the class that it should have"
    );
    for (at, (number, class)) in all.iter().enumerate() {
        // Every number at one point, every point with many numbers; some numbers at all of them.
        let chosen = if [3113, 942, 1017].contains(number) {
            &points[..]
        } else {
            &points[at % points.len()..][..1]
        };
        for point in chosen {
            oracle
                .server
                .world(|world| world.faults = vec![Fault::error(*point, *number)]);
            let run = retrying(oracle.runner(MAP)).run();
            let exit = if *class == FaultClass::Transient { 1 } else { 2 };
            let error = run.failure(exit);
            assert_eq!(error.class, *class, "{number} at {point:?}: {error:?}");
            let code = match number {
                1005 | 1017 | 28000 | 28001 => "CredentialsRejected".to_owned(),
                number => format!("ORA-{number:05}"),
            };
            assert_eq!(error.code, code, "at {point:?}: {error:?}");
            assert!(error.message.contains(&format!("ORA-{number:05}")), "{error:?}");
            let attempts: Vec<_> = run
                .report
                .attempts
                .iter()
                .map(|attempt| (attempt.class, attempt.code.clone()))
                .collect();
            assert_eq!(
                attempts,
                vec![(Some(*class), Some(code)); if exit == 1 { 2 } else { 1 }],
                "{number} at {point:?}"
            );
        }
    }
}

#[test]
fn f32_a_wrong_password_is_tried_once_and_never_again_in_that_run() {
    let oracle = Oracle::new();
    oracle.secret(&[("password", "c4n4ry-wrong")]);
    let run = oracle
        .runner(VIEW)
        .env("MAPA_MAX_RETRIES", "3")
        .env("MAPA_RETRY_DELAY_SECONDS", "0")
        .run();
    let error = run.failure(2);
    assert_eq!(
        (error.code.as_str(), run.report.attempts.len()),
        ("CredentialsRejected", 1),
        "{error:?}"
    );
    let rejected = Logon {
        user: USER.to_ascii_uppercase(),
        accepted: false,
    };
    assert_eq!(oracle.server.world(|world| world.logons.clone()), [rejected]);
}

#[test]
fn without_instant_client_the_admin_is_told_what_is_missing_and_which_image_has_it() {
    let oracle = Oracle::new();
    fs::remove_file(oracle.site.path("client").join("libclntsh.so")).unwrap();
    let run = retrying(oracle.runner(VIEW)).run();
    let error = run.failure(2);
    assert_eq!(
        (error.class, error.code.as_str()),
        (FaultClass::MissingClient, "DPI-1047"),
        "{error:?}"
    );
    for part in [
        "Instant Client is missing",
        "--runner-image-oracle",
        "job-runner/Dockerfile.oracle",
    ] {
        assert!(error.message.contains(part), "{error:?}");
    }
    assert_eq!(run.report.attempts.len(), 1);
}

#[test]
fn a_client_that_is_none_or_too_old_is_named_with_the_image_that_has_one() {
    let version = |major: u32, minor: u32| {
        format!(
            "void OCIClientVersion(int *a, int *b, int *c, int *d, int *e) {{ *a = {major}; *b = {minor}; *c = *d = *e = 0; }}\n"
        )
    };
    for (source, code, word) in [
        (version(19, 3), "DPI-1049", "OCIThreadProcessInit"),
        (version(11, 1), "DPI-1050", "11.1"),
        (String::new(), "DPI-1072", "unsupported"),
    ] {
        let oracle = Oracle::new();
        let library = oracle.site.path("client").join("libclntsh.so");
        fs::remove_file(&library).unwrap();
        let text = oracle.site.path("client.c");
        fs::write(&text, source).unwrap();
        let mut cc = std::process::Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&text);
        assert!(cc.status().unwrap().success());
        let run = retrying(oracle.runner(VIEW)).run();
        let error = run.failure(2);
        assert_eq!(
            (error.class, error.code.as_str()),
            (FaultClass::MissingClient, code),
            "{error:?}"
        );
        for part in [word, "--runner-image-oracle", "job-runner/Dockerfile.oracle"] {
            assert!(error.message.contains(part), "{error:?}");
        }
        assert_eq!(run.report.attempts.len(), 1);
    }
}

#[test]
fn what_is_wrapped_is_classified_by_what_is_inside() {
    let oracle = Oracle::new();
    for (number, class) in [(942, FaultClass::Permanent), (1555, FaultClass::Transient)] {
        oracle
            .server
            .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").query_fails = Some(Ora::new(number, "inside")));
        let error = oracle
            .runner(VIEW)
            .run()
            .failure(if class == FaultClass::Transient { 1 } else { 2 });
        assert_eq!((error.class, error.code), (class, format!("ORA-{number:05}")));
        assert!(
            error.message.contains("ORA-12008") && !error.message.contains("06512"),
            "{}",
            error.message
        );
    }
}

#[test]
fn f32_a_connection_that_dies_between_two_batches_publishes_nothing_and_is_tried_again() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(90);
    oracle.source((1..=2_000).map(|id| outage(id, start)).collect());
    oracle.runner(VIEW).run().success();
    oracle.fault(
        Fault::new(Point::Fetch, Effect::Disconnect)
            .in_sql("ORDER BY")
            .after_rows(1_000)
            .times(1),
    );
    let run = retrying(oracle.runner(MAP)).run();
    let first = run.report.attempts[0].clone();
    assert_eq!(
        (first.class, first.code.as_deref()),
        (Some(FaultClass::Transient), Some("ORA-03113"))
    );
    assert_eq!(run.success().records, 2_000);

    oracle.fault(
        Fault::new(Point::Fetch, Effect::Disconnect)
            .in_sql("ORDER BY")
            .after_rows(1_000),
    );
    let before = oracle.site.document("mapa:interrupcoes");
    assert_eq!(retrying(oracle.runner(MAP)).run().failure(1).code, "ORA-03113");
    assert_eq!(oracle.site.document("mapa:interrupcoes"), before);
}

#[test]
fn f32_a_call_that_hangs_costs_at_most_the_deadline_and_five_seconds() {
    let oracle = Oracle::new();
    oracle.runner(VIEW).run().success();
    let limits = |task: &str| {
        oracle
            .runner(task)
            .env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "1")
            .env("MAPA_RUN_BUDGET_SECONDS", "2")
            .env("MAPA_MAX_RETRIES", "0")
    };
    for heeds_break in [true, false] {
        for (task, point) in [
            (VIEW, Point::Execute),
            (MAP, Point::Fetch),
            (MAP, Point::Commit),
            (MAP, Point::Begin),
            (VIEW, Point::Attach),
        ] {
            oracle
                .server
                .world(|world| world.faults = vec![Fault::new(point, Effect::Hang { heeds_break })]);
            let run = limits(task).run();
            assert_eq!(run.failure(1).code, "AttemptTimeout", "{point:?}");
            assert!(
                run.took < Duration::from_secs(2) + GRACE,
                "{point:?}, heeds a break {heeds_break}: {:?}",
                run.took
            );
            if heeds_break && ![Point::Begin, Point::Attach].contains(&point) {
                assert!(run.stderr.contains("broken off"), "{point:?}: {}", run.stderr);
            }
        }
    }
    oracle.server.world(|world| {
        world.faults = vec![
            Fault::error(Point::Break, 3113),
            Fault::new(Point::Execute, Effect::Hang { heeds_break: true }),
        ]
    });
    let run = limits(VIEW).run();
    assert_eq!(run.failure(1).code, "AttemptTimeout");
    assert!(run.stderr.contains("did not break the statement off"), "{}", run.stderr);
}

#[test]
fn a_client_that_hangs_in_its_own_exit_handlers_keeps_neither_the_process_nor_its_exit_code() {
    let oracle = Oracle::new();
    oracle.server.world(|world| world.clients_hang_at_exit = true);
    let refreshed = oracle.runner(VIEW).run();
    assert!(refreshed.took < GRACE, "{:?}", refreshed.took);
    refreshed.success();
    oracle.fault(Fault::new(Point::Fetch, Effect::Hang { heeds_break: false }));
    let hung = oracle
        .runner(MAP)
        .env("MAPA_ATTEMPT_TIMEOUT_SECONDS", "1")
        .env("MAPA_RUN_BUDGET_SECONDS", "2")
        .run();
    assert_eq!(hung.failure(1).code, "AttemptTimeout");
    assert!(hung.took < Duration::from_secs(2) + GRACE, "{:?}", hung.took);
    oracle.secret(&[("password", "c4n4ry-wrong")]);
    assert_eq!(oracle.runner(VIEW).run().failure(2).code, "CredentialsRejected");
}

#[test]
fn sigterm_breaks_off_the_refresh_and_the_view_stays_as_it_was() {
    let oracle = Oracle::new();
    oracle.runner(VIEW).run().success();
    let before = oracle.server.world(|world| {
        // Within the second of the last refresh there would be nothing to do: stamps are whole seconds.
        world.clock_ahead = chrono::Duration::seconds(30);
        let view = world.view("RADAR", "MV_PORTAL_PUBLICO");
        view.refresh_takes = Duration::from_secs(60);
        view.last_refresh
    });
    let running = oracle.runner(VIEW).env("MAPA_JOB_NAME", "by-hand").start();
    oracle.server.wait_until("the view is being refreshed", |world| {
        world.views.values().any(|view| view.refreshing.is_some())
    });
    let began = std::time::Instant::now();
    running.terminate();
    let run = running.finish();
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
    assert_eq!(run.failure(1).code, "Terminated");
    oracle
        .server
        .wait_until("its session has ended, and its lock with it", |world| {
            world.sessions.is_empty() && world.locks.is_empty()
        });
    assert_eq!(
        oracle
            .server
            .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").last_refresh),
        before
    );
}

#[test]
fn f34_a_runner_that_is_killed_leaves_no_lock() {
    let oracle = Oracle::new();
    oracle
        .server
        .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").refresh_takes = Duration::from_secs(60));
    let running = oracle.runner(VIEW).start();
    oracle
        .server
        .wait_until("the lock is taken", |world| !world.locks.is_empty());
    assert!(running.kill());
    oracle
        .server
        .wait_until("the lock is free", |world| world.locks.is_empty());
    oracle
        .server
        .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").refresh_takes = Duration::ZERO);
    assert_eq!(oracle.runner(VIEW).run().success().kind, SuccessKind::Refreshed);
}

#[test]
fn lesson_11_of_several_runs_of_one_slot_exactly_one_refreshes_with_or_without_the_grant_of_locks() {
    for granted in [true, false] {
        let oracle = Oracle::new();
        oracle.server.world(|world| {
            world.dbms_lock_granted = granted;
            world.view("RADAR", "MV_PORTAL_PUBLICO").refresh_takes = Duration::from_millis(300);
        });
        let runs: Vec<_> = (0..4).map(|_| oracle.runner(VIEW).job(VIEW, 1).start()).collect();
        let kinds: Vec<_> = runs.into_iter().map(|run| run.finish().success().kind).collect();
        let refreshed = kinds.iter().filter(|kind| **kind == SuccessKind::Refreshed).count();
        // Without the lock each waits for the one before it, and only who looks afterwards sees that nothing is left to do.
        assert!(if granted { refreshed == 1 } else { refreshed >= 1 }, "{kinds:?}");
    }
}

#[test]
fn a_refresh_after_which_the_stamp_stands_is_no_refresh() {
    let oracle = Oracle::new();
    oracle.runner(VIEW).run().success();
    oracle.server.world(|world| {
        world.clock_ahead = chrono::Duration::seconds(30);
        world.view("RADAR", "MV_PORTAL_PUBLICO").stamp_stands = true;
    });
    let error = oracle.runner(VIEW).run().failure(1);
    assert!(error.message.contains("did not advance"), "{error:?}");
}

#[test]
fn missing_columns_views_and_privileges_are_named() {
    let oracle = Oracle::new();
    oracle.runner(VIEW).run().success();
    let renamed = oracle
        .runner(MAP)
        .env("MAPA_DATABASE_COLUMNS", "causa=motivo,bairro=setor")
        .run()
        .failure(2);
    assert_eq!(renamed.code, "ORA-00904");
    assert!(
        renamed.message.contains("SETOR, MOTIVO") && renamed.message.contains("spec.database.columns"),
        "{renamed:?}"
    );
    let absent = oracle
        .runner(MAP)
        .env("MAPA_DATABASE_VIEW", "RADAR.MV_OUTRA")
        .run()
        .failure(2);
    assert!(
        absent.code == "ORA-00942" && absent.message.contains("RADAR.MV_OUTRA"),
        "{absent:?}"
    );
    oracle.server.world(|world| {
        world.refreshers.clear();
        world.clock_ahead = chrono::Duration::seconds(30);
    });
    let forbidden = oracle.runner(VIEW).run().failure(2);
    assert!(
        forbidden.code == "ORA-01031" && forbidden.message.contains("job-runner schema --kind oracle"),
        "{forbidden:?}"
    );
}

#[test]
fn values_of_rows_are_in_no_error_of_a_views_own_query() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    oracle.source(vec![outage(1, start)]);
    oracle.runner(VIEW).run().success();
    // What Run looks for in everything that the runner says.
    let personal = "c4n4ry Joao tel 95 99999-0000";
    // Within the second of the last refresh there would be nothing to do: stamps are whole seconds.
    oracle
        .server
        .world(|world| world.clock_ahead = chrono::Duration::seconds(30));
    let judge = |run: &Run, number: i32, exit| {
        let error = run.failure(exit);
        assert_eq!(error.code, format!("ORA-{number:05}"), "{error:?}");
        assert!(error.message.contains(&error.code), "{error:?}");
        assert!(
            !error.message.contains("tel 95") && !run.stderr.contains("tel 95"),
            "{run:?}"
        );
        error.message
    };
    for number in [1, 1400, 1427, 1722, 1830, 1847, 1858, 12899, 20_001] {
        oracle
            .server
            .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").query_fails = Some(Ora::new(number, personal)));
        let message = judge(&oracle.runner(VIEW).run(), number, 2);
        assert!(
            message.contains("ORA-12008: ") && message.contains("mend "),
            "{message}"
        );
        // As in the reading of a view that is none, but runs its query each time.
        let fault = Fault::new(Point::Fetch, Effect::Error(Ora::new(number, personal)));
        oracle.server.world(|world| {
            world.view("RADAR", "MV_PORTAL_PUBLICO").query_fails = None;
            world.faults = vec![fault.in_sql("ORDER BY")];
        });
        judge(&oracle.runner(MAP).run(), number, 2);
        oracle.server.world(|world| world.faults.clear());
    }
    // Unknown numbers are not quoted, and lines that follow one that is not are neither.
    for (number, text) in [
        (600, personal.to_owned()),
        (20_001, format!("x\nORA-00942: {personal}")),
        (20_001, format!("x\n{personal}")),
    ] {
        let fails = Ora::new(number, &text);
        oracle
            .server
            .world(|world| world.view("RADAR", "MV_PORTAL_PUBLICO").query_fails = Some(fails));
        judge(&oracle.runner(VIEW).run(), number, if number == 600 { 1 } else { 2 });
    }
}

#[test]
fn views_and_columns_are_found_whatever_their_case() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    oracle.server.world(|world| {
        let mut view = world.view("RADAR", "MV_PORTAL_PUBLICO").clone();
        view.columns[0].name = "Id".to_owned();
        view.columns[11].name = "motivo".to_owned();
        view.source = Arc::new(vec![outage(1, start)]);
        world.views.clear();
        world
            .views
            .insert(("RADAR".to_owned(), "Mv_Portal_Publico".to_owned()), view);
    });
    let run = |task: &str| {
        let runner = oracle.runner(task).env("MAPA_DATABASE_COLUMNS", "causa=MOTIVO");
        runner.run().success().records
    };
    assert_eq!((run(VIEW), run(MAP)), (1, 1));
    oracle.server.world(|world| {
        let view = world.views.values().next().unwrap().clone();
        world
            .views
            .insert(("RADAR".to_owned(), "mv_PORTAL_PUBLICO".to_owned()), view);
    });
    let several = oracle.runner(VIEW).run().failure(2);
    assert_eq!(several.code, "ORA-00918", "{several:?}");
    for part in [
        "RADAR.Mv_Portal_Publico",
        "RADAR.mv_PORTAL_PUBLICO",
        "spec.database.view",
    ] {
        assert!(several.message.contains(part), "{several:?}");
    }
}

#[test]
fn a_user_who_does_not_own_the_view_refreshes_it_by_its_owners_procedure() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    oracle.source(vec![outage(1, start)]);
    let procedure = |executors: &[&str]| Procedure {
        list: "RADAR.MV_PORTAL_PUBLICO".to_owned(),
        executors: executors.iter().map(|user| user.to_ascii_uppercase()).collect(),
    };
    let key = ("RADAR".to_owned(), "REFRESH_MV_PORTAL_PUBLICO".to_owned());
    oracle.server.world(|world| {
        world.refreshers.clear();
        world.procedures.insert(key.clone(), procedure(&[]));
    });
    let forbidden = oracle.runner(VIEW).run().failure(2);
    assert_eq!(forbidden.code, "ORA-01031", "no EXECUTE: {forbidden:?}");
    oracle
        .server
        .world(|world| world.procedures.insert(key, procedure(&[USER])));
    let refreshed = oracle.runner(VIEW).run().success();
    assert_eq!((refreshed.kind, refreshed.records), (SuccessKind::Refreshed, 1));
    oracle.server.world(|world| {
        world.clock_ahead = chrono::Duration::seconds(30);
        world.view("RADAR", "MV_PORTAL_PUBLICO").query_fails = Some(Ora::new(942, "inside"));
    });
    assert_eq!(
        oracle.runner(VIEW).run().failure(2).code,
        "ORA-00942",
        "its errors are the procedure's own"
    );
}

#[test]
fn urls_aliases_descriptions_and_wallets_reach_the_database() {
    let oracle = Oracle::new();
    let address = oracle.server.address();
    let description = format!(
        "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST={})(PORT={}))(CONNECT_DATA=(SERVICE_NAME=RADAR)))",
        address.ip(),
        address.port()
    );
    let names = format!("RADAR_PROD = {description}\n");
    let plain = format!("{address}/RADAR");
    let tls = format!("oracle+tcps://{address}/RADAR");
    let with_user = format!("oracle://{USER}:{}@{address}/RADAR", DATABASE_PASSWORD);
    let ways: [&[(&str, &str)]; 5] = [
        &[("url", &description)],
        &[("url", "RADAR_PROD"), ("tnsnames.ora", &names)],
        &[("url", &plain)],
        &[("url", &tls), ("cwallet.sso", "wallet")],
        &[("url", &with_user), ("username", ""), ("password", "")],
    ];
    for keys in ways {
        oracle.secret(keys);
        oracle
            .runner("health-check")
            .env("MAPA_POLICY_TASKS", "health-check")
            .run();
        let logon = oracle.server.world(|world| world.logons.pop());
        assert!(logon.is_some_and(|logon| logon.accepted), "{keys:?}");
    }
    oracle.secret(&[("url", &tls)]);
    assert_eq!(oracle.runner(VIEW).run().failure(2).code, "ORA-28759");
    oracle.secret(&[("url", "postgres://h/d")]);
    let error = oracle.runner(VIEW).run().failure(2);
    assert!(
        error.code == "SecretIncomplete" && error.message.contains("oracle://"),
        "{error:?}"
    );
}

#[test]
fn hostile_text_and_odd_types_are_carried_as_data() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    let hostile = [
        "<script>alert(1)</script>",
        "\u{1b}[31mred\u{0}\u{7f}",
        "😀 \u{202e}",
        &"ã".repeat(500),
    ];
    let mut rows: Vec<_> = hostile
        .iter()
        .zip(1..)
        .map(|(cause, id)| {
            let mut row = outage(id, start);
            row[11] = Value::text(cause);
            row
        })
        .collect();
    // Half a surrogate pair, as a database in CESU-8 keeps it.
    let mut unpaired = outage(5, start);
    unpaired[11] = Value::Text(b"x\xed\xa0\xbdy".to_vec());
    rows.push(unpaired);
    // All that may be null.
    let mut bare = outage(6, start);
    [1, 2, 3, 4, 5, 7, 8, 10, 11, 12]
        .into_iter()
        .for_each(|at| bare[at] = Value::Null);
    rows.push(bare);
    oracle.source(rows);
    oracle.runner(VIEW).run().success();
    let run = oracle.runner(MAP).run();
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
    let success = run.success();
    assert_eq!(success.records, 6);
    let of_the_bare = [
        "COORDINATES_MISSING",
        "MISSING_BAIRRO",
        "MISSING_CREWS",
        "UNKNOWN_MUNICIPALITY",
        "UNKNOWN_STATUS",
        "UNKNOWN_TYPE",
        // Of the unpaired one.
        "UNREADABLE_TEXT",
    ];
    assert_eq!(success.repaired, of_the_bare.map(|why| (why.to_owned(), 1)).into());
    let map = oracle.site.document("mapa:interrupcoes").unwrap();
    let causes: Vec<_> = map["interrupcoes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["causa"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(causes[0].as_deref(), Some(hostile[0]));
    assert_eq!(causes[3].as_deref(), Some(hostile[3]));
    assert!(
        causes[4]
            .as_deref()
            .is_some_and(|text| text.starts_with('x') && text.contains('\u{fffd}')),
        "{causes:?}"
    );
    assert_eq!(map["interrupcoes"][5]["status"], "EM_PREPARACAO");
}

#[test]
fn lesson_08_bad_details_are_counted_by_their_reason_and_hide_no_outage() {
    let oracle = Oracle::new();
    let now = oracle.local_time();
    let start = now - chrono::Duration::minutes(30);
    let number = |text: &str| Value::Number(text.to_owned());
    let spoilt = [
        (2, Value::text("9999999"), "UNKNOWN_MUNICIPALITY"),
        (4, number("0"), ""),
        (4, number("48.85"), "COORDINATES_OUTSIDE_AREA"),
        (5, number("0"), "COORDINATES_OUTSIDE_AREA"),
        (6, Value::Local(now + chrono::Duration::minutes(4)), "START_AHEAD"),
        (6, Value::Local(now + chrono::Duration::minutes(40)), "FUTURE_START"),
        (6, Value::Null, "MISSING_START"),
        (7, Value::text("OUTRA"), "UNKNOWN_TYPE"),
        (8, Value::text("Q"), "UNKNOWN_STATUS"),
        (9, Value::Null, "MISSING_UCS"),
        (9, number("-4"), "NEGATIVE_UCS"),
        (10, number("-1"), "NEGATIVE_CREWS"),
        (
            12,
            Value::Local(start - chrono::Duration::minutes(1)),
            "FORECAST_BEFORE_START",
        ),
    ];
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut rows = Vec::new();
    for ((column, value, why), id) in spoilt.into_iter().zip(1..) {
        let mut row = outage(id, start);
        row[column] = value;
        rows.push(row);
        if !why.is_empty() {
            *expected.entry(why.to_owned()).or_default() += 1;
        }
    }
    rows.push(outage(1, start));
    expected.insert("DUPLICATE_ID".to_owned(), 1);
    oracle.source(rows);
    oracle.runner(VIEW).run().success();
    let map = oracle.runner(MAP).run().success();
    let counted: BTreeMap<String, u64> = map.repaired.into_iter().chain(map.quarantined).collect();
    assert_eq!((map.records, counted), (8, expected));
    let published = oracle.site.document("mapa:interrupcoes").unwrap();
    assert_eq!(
        published["interrupcoes"][1]["coordenadas"]["latitude"], 0.0,
        "the equator crosses the state"
    );
}

#[test]
fn lesson_09_a_collapse_is_refused_until_a_later_job_finds_it_too() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    oracle.source((1..=30).map(|id| outage(id, start)).collect());
    let run = |task: &str, job: &str| oracle.runner(task).env("MAPA_JOB_NAME", job).run();
    run(VIEW, "a").success();
    run(MAP, "a").success();
    let before = oracle.site.document("mapa:interrupcoes");
    oracle.source(Vec::new());
    // Stamps are whole seconds: a refresh of the same second would be none.
    oracle
        .server
        .world(|world| world.clock_ahead = chrono::Duration::seconds(30));
    run(VIEW, "b").success();
    assert_eq!(run(MAP, "b").failure(2).code, "ImplausibleResult");
    assert_eq!(oracle.site.document("mapa:interrupcoes"), before);
    assert_eq!(run(MAP, "c").success().records, 0);
    assert_eq!(oracle.site.document("mapa:interrupcoes").unwrap()["total"], 0);
}

#[test]
fn columns_of_other_types_are_read_as_well() {
    let oracle = Oracle::new();
    let start = oracle.local_time() - chrono::Duration::minutes(30);
    let start = NaiveDate::and_time(&start.date(), start.time());
    oracle.server.world(|world| {
        let view = world.view("RADAR", "MV_PORTAL_PUBLICO");
        view.columns[6].kind = Kind::TimestampTz;
        view.columns[12].kind = Kind::Timestamp;
        view.columns[9].kind = Kind::Varchar2(20);
        let mut row = outage(1, start);
        row[6] = Value::Zoned(start + chrono::Duration::hours(1), -180);
        row[12] = Value::Local(start + chrono::Duration::hours(3));
        row[9] = Value::text("7");
        view.source = Arc::new(vec![row]);
    });
    oracle.runner(VIEW).run().success();
    oracle.runner(MAP).run().success();
    let map = oracle.site.document("mapa:interrupcoes").unwrap();
    let item = &map["interrupcoes"][0];
    assert_eq!(item["duracaoMinutos"], 30);
    assert_eq!(item["ucsAfetadas"], 7);
    assert_eq!(
        item["previsaoRestabelecimento"].as_str().unwrap(),
        format!(
            "{}-04:00",
            (start + chrono::Duration::hours(3)).format("%Y-%m-%dT%H:%M:%S")
        )
    );
}

#[test]
fn the_age_is_the_databases_own_whatever_its_clock_and_its_zone() {
    for (ahead_minutes, offset) in [(0, -240), (7, 0), (-7, 330)] {
        let oracle = Oracle::new();
        oracle.server.world(|world| {
            world.clock_ahead = chrono::Duration::minutes(ahead_minutes);
            world.utc_offset_minutes = offset;
        });
        let refreshed = oracle.runner(VIEW).run().success();
        oracle.server.world(|world| {
            let view = world.view("RADAR", "MV_PORTAL_PUBLICO");
            view.last_refresh = view.last_refresh.map(|at| at - chrono::Duration::seconds(100));
        });
        let published = oracle.runner(MAP).run().success();
        assert!((100.0..107.0).contains(&published.age_seconds), "{published:?}");
        assert_eq!(generation(&published), generation(&refreshed) - 100_000_000);
    }
}

#[test]
fn a_warning_at_the_logon_is_passed_on() {
    let oracle = Oracle::new();
    oracle
        .server
        .world(|world| world.logon_warning = Some(Ora::new(28002, "the password will expire within 7 days")));
    let run = oracle.runner(VIEW).run();
    assert!(run.stderr.contains("ORA-28002"), "{}", run.stderr);
    run.success();
}
