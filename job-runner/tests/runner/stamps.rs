//! A stamp dates the data of the view that it was recorded with, and of no other.

use mapa_refresh_crds::report::{FaultClass, SuccessKind};

use crate::{
    servers::{Postgres, wait_until},
    world::World,
};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// That the map is not dated by what is there, and that a refresh is made although a stamp is of this minute.
fn is_not_believed(world: &World) {
    let map = world.runner(MAP).run().failure(1);
    assert_eq!(
        (map.class, map.code.as_str()),
        (FaultClass::Transient, "55000"),
        "{map:?}"
    );
    assert!(
        map.message.contains("of another server, database or view") && map.message.contains("refresh-mv-portal"),
        "{map:?}"
    );
    assert!(world.document("mapa:interrupcoes").is_none());
    let refreshed = world.runner(VIEW).job(VIEW, 0).run().success();
    assert_eq!(refreshed.kind, SuccessKind::Refreshed);
    world.succeed(MAP);
}

#[test]
fn a_stamp_that_was_copied_without_its_view_dates_nothing() {
    let source = World::new();
    source.outage(1, 90, "");
    source.succeed(VIEW);
    let key = source.sql("SELECT view_name FROM radar.mapa_refresh_stamp");
    // As `pg_dump -t` does; and a row of before, which names the view alone.
    for key in [key.as_str(), "mv_portal_publico"] {
        let copy = World::new();
        copy.outage(1, 90, "");
        copy.sql("REFRESH MATERIALIZED VIEW radar.mv_portal_publico");
        copy.sql(&format!(
            "INSERT INTO radar.mapa_refresh_stamp VALUES ('{key}', now() + interval '2 min')"
        ));
        is_not_believed(&copy);
    }
}

#[test]
fn a_view_that_was_made_anew_or_emptied_has_no_stamp() {
    let world = World::new();
    world.outage(1, 90, "");
    world.succeed(VIEW);
    world.remake_view("SELECT * FROM radar.interrupcao", "linha");
    world.sql("REFRESH MATERIALIZED VIEW radar.mv_portal_publico");
    is_not_believed(&world);

    let emptied = World::new();
    emptied.outage(1, 90, "");
    emptied.succeed(VIEW);
    emptied.sql("REFRESH MATERIALIZED VIEW radar.mv_portal_publico WITH NO DATA");
    is_not_believed(&emptied);
}

#[test]
fn a_refresh_by_somebody_else_leaves_the_stamp_as_it_was() {
    let world = World::new();
    world.outage(1, 90, "");
    let first = world.succeed(VIEW);
    world.outage(2, 30, "");
    world.sql("REFRESH MATERIALIZED VIEW radar.mv_portal_publico");
    world.sql("VACUUM FULL radar.mv_portal_publico");
    let map = world.succeed(MAP);
    assert_eq!((map.records, map.data_as_of), (2, first.data_as_of));
}

#[test]
fn a_subscriber_of_the_stamps_believes_its_own_and_both_servers_go_on() {
    let (publisher, subscriber) = (Postgres::start(), Postgres::start());
    let (one, other) = (World::on(publisher.into()), World::on(subscriber.into()));
    one.outage(1, 90, "");
    one.succeed(VIEW);
    one.sql("CREATE PUBLICATION stamps FOR TABLE radar.mapa_refresh_stamp");
    // The same database by the same script: the oids may well be the same.
    other.outage(1, 90, "");
    other.sql("REFRESH MATERIALIZED VIEW radar.mv_portal_publico");
    let role = "CREATE ROLE replica SUPERUSER LOGIN REPLICATION PASSWORD 'replica'";
    one.postgres.sql("postgres", role);
    other.sql(&format!(
        "CREATE SUBSCRIPTION stamps CONNECTION 'host=127.0.0.1 port={} dbname={} user=replica password=replica' PUBLICATION stamps",
        one.postgres.port(),
        one.database
    ));
    wait_until("the stamp was copied", || {
        other.sql("SELECT count(*) FROM radar.mapa_refresh_stamp") == "1"
    });
    is_not_believed(&other);
    for _ in 0..2 {
        let stamp = one.sql("SELECT max(refreshed_at) FROM radar.mapa_refresh_stamp");
        one.succeed(VIEW);
        wait_until("the next stamp was copied", || {
            one.sql("SELECT max(refreshed_at) FROM radar.mapa_refresh_stamp") != stamp
                && other.sql(&format!(
                    "SELECT count(*) FROM radar.mapa_refresh_stamp WHERE refreshed_at = '{}'",
                    one.sql("SELECT max(refreshed_at) FROM radar.mapa_refresh_stamp")
                )) == "1"
        });
        let own = other.succeed(VIEW);
        assert_eq!(own.kind, SuccessKind::Refreshed);
        assert_eq!(other.succeed(MAP).data_as_of, own.data_as_of);
    }
    other.sql(
        "ALTER SUBSCRIPTION stamps DISABLE; ALTER SUBSCRIPTION stamps SET (slot_name = NONE); DROP SUBSCRIPTION stamps",
    );
}
