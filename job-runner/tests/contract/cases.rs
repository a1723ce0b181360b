//! The promises, one case each.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use mapa_refresh_crds::report::FaultClass;
use mapa_refresh_job_runner::{
    database::{Database, Interrupt, Reading, Refresh, RowSink},
    domain::row::Row,
};

use crate::backend::Backend;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        /// Every case over a backend, called `name`; ignored unless `is_there`.
        pub fn over<B: Backend + 'static>(name: &str, is_there: bool) -> Vec<Trial> {
            vec![$(
                Trial::test(format!("{name}::{}", stringify!($case)), || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    runtime.block_on($case(&B::new()));
                    runtime.shutdown_background();
                    Ok(())
                })
                .with_ignored_flag(!is_there),
            )*]
        }
    };
}

cases![
    before_any_refresh_nothing_dates_the_rows,
    a_refresh_fills_the_view_and_proves_it_by_its_stamp,
    each_refresh_advances_the_stamp,
    what_is_fresh_under_the_lock_is_not_refreshed,
    while_another_session_refreshes_the_answer_is_busy_and_afterwards_work_goes_on,
    readers_keep_the_old_rows_during_a_refresh,
    the_reading_comes_first_and_the_rows_in_the_order_of_their_ids,
    stamp_and_rows_are_one_snapshot,
    nulls_and_hostile_text_come_as_they_are,
    an_age_is_measured_by_the_databases_clock,
    missing_columns_are_named,
    a_view_that_is_not_there_is_named,
    names_are_found_whatever_their_case,
    an_interrupted_refresh_ends_at_once_and_leaves_the_view_as_it_was,
    a_closed_session_leaves_nothing_behind,
    a_session_goes_on_after_an_error,
];

/// Never satisfied with what is there.
fn never(_: &Reading) -> bool {
    false
}

async fn refreshed(session: &mut impl Database) -> Reading {
    match session.refresh(&never).await.unwrap() {
        Refresh::Done(reading) => reading,
        other => panic!("{other:?}"),
    }
}

#[derive(Default)]
struct Sink<'a> {
    reading: Option<Reading>,
    rows: Vec<(String, Option<String>)>,
    on_begin: Option<&'a dyn Fn()>,
}

impl RowSink for Sink<'_> {
    fn begin(&mut self, reading: &Reading) {
        assert!(
            self.reading.is_none() && self.rows.is_empty(),
            "the reading comes once, before any row"
        );
        self.reading = Some(*reading);
        if let Some(act) = self.on_begin {
            act();
        }
    }

    fn row(&mut self, row: &Row<'_>) {
        assert!(self.reading.is_some(), "the reading comes first");
        let owned = |cell: &Option<std::borrow::Cow<'_, str>>| cell.as_deref().map(str::to_owned);
        self.rows.push((owned(&row.id).unwrap(), owned(&row.causa)));
    }
}

async fn before_any_refresh_nothing_dates_the_rows(backend: &impl Backend) {
    let mut session = backend.connect().await;
    assert_eq!(session.reading().await.unwrap(), None);
    let error = session.read(&mut Sink::default()).await.unwrap_err();
    assert_eq!(error.class, FaultClass::Transient, "{error:?}");
    assert!(error.message.contains("refresh-mv-portal"), "{error:?}");
}

async fn a_refresh_fills_the_view_and_proves_it_by_its_stamp(backend: &impl Backend) {
    backend.source(&[(1, None), (2, None), (3, None)]);
    let mut session = backend.connect().await;
    let done = refreshed(&mut session).await;
    assert!((0.0..10.0).contains(&done.age_seconds), "{done:?}");
    assert_eq!(session.count().await.unwrap(), 3);
    let read = session.reading().await.unwrap().unwrap();
    assert_eq!(read.stamp, done.stamp);
    assert!(read.age_seconds >= done.age_seconds);
}

async fn each_refresh_advances_the_stamp(backend: &impl Backend) {
    let mut session = backend.connect().await;
    let first = refreshed(&mut session).await;
    backend.let_stamps_differ();
    let second = refreshed(&mut session).await;
    assert!(second.stamp > first.stamp, "{first:?} {second:?}");
}

async fn what_is_fresh_under_the_lock_is_not_refreshed(backend: &impl Backend) {
    backend.source(&[(1, None)]);
    let mut session = backend.connect().await;
    let done = refreshed(&mut session).await;
    backend.source(&[(1, None), (2, None)]);
    backend.let_stamps_differ();
    match session.refresh(&|reading| reading.stamp == done.stamp).await.unwrap() {
        Refresh::AlreadyFresh(reading) => assert_eq!(reading.stamp, done.stamp),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.count().await.unwrap(), 1, "the view was not touched");
    refreshed(&mut session).await;
    assert_eq!(session.count().await.unwrap(), 2);
}

async fn while_another_session_refreshes_the_answer_is_busy_and_afterwards_work_goes_on(backend: &impl Backend) {
    backend.source(&[(1, None)]);
    let (mut one, mut other) = (backend.connect().await, backend.connect().await);
    refreshed(&mut one).await;
    backend.let_stamps_differ();
    backend.refresh_takes(Duration::from_secs(2));
    let busy = async {
        until(|| backend.is_refreshing()).await;
        other.refresh(&never).await.unwrap()
    };
    let (first, second) = tokio::join!(one.refresh(&never), busy);
    assert!(matches!(first.unwrap(), Refresh::Done(_)));
    assert_eq!(second, Refresh::Busy);
    backend.refresh_takes(Duration::ZERO);
    backend.let_stamps_differ();
    refreshed(&mut other).await;
}

async fn readers_keep_the_old_rows_during_a_refresh(backend: &impl Backend) {
    backend.source(&[(1, None), (2, None)]);
    let (mut writer, mut reader) = (backend.connect().await, backend.connect().await);
    refreshed(&mut writer).await;
    backend.source(&[(1, None)]);
    backend.let_stamps_differ();
    backend.refresh_takes(Duration::from_secs(1));
    let counts = async {
        until(|| backend.is_refreshing()).await;
        let mut counts = Vec::new();
        while backend.is_refreshing() {
            counts.push(reader.count().await.unwrap());
        }
        counts
    };
    let (done, counts) = tokio::join!(writer.refresh(&never), counts);
    assert!(matches!(done.unwrap(), Refresh::Done(_)));
    assert!(
        counts.len() > 1 && counts.iter().all(|count| [2, 1].contains(count)) && counts[0] == 2,
        "{counts:?}"
    );
    assert_eq!(reader.count().await.unwrap(), 1);
}

async fn the_reading_comes_first_and_the_rows_in_the_order_of_their_ids(backend: &impl Backend) {
    // More than come at once, and not in their order.
    let outages: Vec<(i64, Option<&str>)> = (1..=1_201).rev().map(|id| (id, None)).collect();
    backend.source(&outages);
    let mut session = backend.connect().await;
    let done = refreshed(&mut session).await;
    let mut sink = Sink::default();
    let reading = session.read(&mut sink).await.unwrap();
    assert_eq!(reading.stamp, done.stamp);
    assert_eq!(sink.reading.map(|reading| reading.stamp), Some(done.stamp));
    let ids: Vec<i64> = sink.rows.iter().map(|(id, _)| id.parse().unwrap()).collect();
    assert_eq!(ids, (1..=1_201).collect::<Vec<_>>());
}

async fn stamp_and_rows_are_one_snapshot(backend: &impl Backend) {
    backend.source(&[(1, None)]);
    let mut session = backend.connect().await;
    let done = refreshed(&mut session).await;
    backend.source(&[(1, None), (2, None)]);
    backend.let_stamps_differ();
    let refresh = || backend.refresh_from_outside();
    let mut sink = Sink {
        on_begin: Some(&refresh),
        ..Sink::default()
    };
    let reading = session.read(&mut sink).await.unwrap();
    assert_eq!(
        (reading.stamp, sink.rows.len()),
        (done.stamp, 1),
        "rows and stamp from before that refresh"
    );
    let mut sink = Sink::default();
    let reading = session.read(&mut sink).await.unwrap();
    assert!(reading.stamp > done.stamp);
    assert_eq!(sink.rows.len(), 2);
}

async fn nulls_and_hostile_text_come_as_they_are(backend: &impl Backend) {
    let long = "ã".repeat(500);
    let causes = [
        None,
        Some("'; DROP TABLE x; --"),
        Some("<script>\u{1b}[31m\n\""),
        Some("😀"),
        Some(long.as_str()),
    ];
    let outages: Vec<(i64, Option<&str>)> = (1..).zip(causes).collect();
    backend.source(&outages);
    let mut session = backend.connect().await;
    refreshed(&mut session).await;
    let mut sink = Sink::default();
    session.read(&mut sink).await.unwrap();
    let read: Vec<Option<&str>> = sink.rows.iter().map(|(_, cause)| cause.as_deref()).collect();
    assert_eq!(read, causes);
}

async fn an_age_is_measured_by_the_databases_clock(backend: &impl Backend) {
    let mut session = backend.connect().await;
    let done = refreshed(&mut session).await;
    if backend.age_stamp(100) {
        let reading = session.reading().await.unwrap().unwrap();
        assert!((100.0..110.0).contains(&reading.age_seconds), "{reading:?}");
        assert!((reading.stamp.seconds_since(done.stamp) + 100.0).abs() < 1e-6);
    }
    let before = session.reading().await.unwrap().unwrap();
    backend.let_stamps_differ();
    let after = session.reading().await.unwrap().unwrap();
    assert!(after.age_seconds > before.age_seconds, "{before:?} {after:?}");
}

async fn missing_columns_are_named(backend: &impl Backend) {
    let mut session = backend
        .connect_to(&backend.view(), "causa=motivo,bairro=setor")
        .await
        .unwrap();
    refreshed(&mut session).await;
    let error = session.read(&mut Sink::default()).await.unwrap_err();
    let message = error.message.to_ascii_lowercase();
    assert_eq!(error.class, FaultClass::Permanent, "{error:?}");
    for part in ["motivo", "setor", "spec.database.columns"] {
        assert!(message.contains(part), "{error:?}");
    }
}

async fn a_view_that_is_not_there_is_named(backend: &impl Backend) {
    let mut session = backend.connect_to("RADAR.MV_OUTRA", "").await.unwrap();
    for error in [
        session.reading().await.unwrap_err(),
        session.refresh(&never).await.unwrap_err(),
    ] {
        assert_eq!(error.class, FaultClass::Permanent, "{error:?}");
        assert!(
            error.message.contains("RADAR.MV_OUTRA") && error.message.contains("spec.database.view"),
            "{error:?}"
        );
    }
}

async fn names_are_found_whatever_their_case(backend: &impl Backend) {
    backend.source(&[(1, Some("poda"))]);
    let view = backend.view();
    let mixed: String = view
        .char_indices()
        .map(|(at, c)| {
            if at % 2 == 0 {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            }
        })
        .collect();
    for name in [view.to_ascii_uppercase(), view.to_ascii_lowercase(), mixed] {
        let mut session = backend.connect_to(&name, "causa=CauSA,id=ID").await.unwrap();
        backend.let_stamps_differ();
        refreshed(&mut session).await;
        let mut sink = Sink::default();
        session.read(&mut sink).await.unwrap();
        assert_eq!(sink.rows, [("1".to_owned(), Some("poda".to_owned()))], "{name}");
    }
}

async fn an_interrupted_refresh_ends_at_once_and_leaves_the_view_as_it_was(backend: &impl Backend) {
    backend.source(&[(1, None)]);
    let mut session = backend.connect().await;
    let before = refreshed(&mut session).await;
    backend.source(&[(1, None), (2, None)]);
    backend.let_stamps_differ();
    backend.refresh_takes(Duration::from_secs(60));
    let interrupt = session.interrupt();
    tokio::select! {
        done = session.refresh(&never) => panic!("{done:?}"),
        () = until(|| backend.is_refreshing()) => {}
    }
    let began = Instant::now();
    interrupt.interrupt().await;
    drop(session);
    until(|| !backend.is_refreshing()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    backend.refresh_takes(Duration::ZERO);
    let mut session = backend.connect().await;
    assert_eq!(
        session.reading().await.unwrap().map(|reading| reading.stamp),
        Some(before.stamp)
    );
    assert_eq!(session.count().await.unwrap(), 1);
    refreshed(&mut session).await;
    assert_eq!(session.count().await.unwrap(), 2, "no lock was left");
}

async fn a_closed_session_leaves_nothing_behind(backend: &impl Backend) {
    let mut session = backend.connect().await;
    refreshed(&mut session).await;
    session.close().await;
    backend.let_stamps_differ();
    refreshed(&mut backend.connect().await).await;
}

async fn a_session_goes_on_after_an_error(backend: &impl Backend) {
    let mut session = backend.connect().await;
    assert!(session.read(&mut Sink::default()).await.is_err(), "never refreshed");
    refreshed(&mut session).await;
    session.read(&mut Sink::default()).await.unwrap();
}

/// Waits until `condition` holds; not for ever.
async fn until(condition: impl Fn() -> bool) {
    let ends = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < ends, "in 30 s not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
