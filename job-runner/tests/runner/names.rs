//! Names of views and columns that were made in quotes, with upper-case letters.

use mapa_refresh_crds::report::SuccessKind;

use crate::world::World;

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";

/// A view in which nothing has a name in lower case; it holds one outage more than `others`.
fn upper_case(world: &World, name: &str) {
    world.sql(&format!(
        "CREATE MATERIALIZED VIEW radar.\"{name}\" AS SELECT linha AS \"LINHA\", id AS \"ID\", numero_ocorrencia AS \"NUMERO_OCORRENCIA\", codigo_ibge AS \"Codigo_IBGE\", \
         bairro, latitude, longitude, data_inicio AS \"Data_Inicio\", tipo, status_codigo, ucs_afetadas, equipes_designadas, causa AS \"MOTIVO\", \
         previsao_restabelecimento FROM radar.interrupcao WITH NO DATA; ALTER MATERIALIZED VIEW radar.\"{name}\" OWNER TO mapa_refresh"
    ));
}

#[test]
fn views_and_columns_are_found_whatever_their_case() {
    let world = World::new();
    world.outage(1, 90, ", causa = 'poda'");
    upper_case(&world, "MV_Portal");
    for name in ["radar.mv_portal", "RADAR.MV_PORTAL", "Radar.MV_Portal"] {
        let runner = |task| {
            world
                .runner(task)
                .env("MAPA_DATABASE_VIEW", name)
                .env("MAPA_DATABASE_COLUMNS", "causa=motivo")
        };
        let refused = runner(VIEW).run();
        if refused.code() != 0 {
            let message = refused.failure(2).message;
            let (_, ddl) = message.split_once("has to run: ").unwrap();
            assert_eq!(
                ddl,
                "CREATE UNIQUE INDEX \"MV_Portal_unico\" ON radar.\"MV_Portal\" (\"ID\");"
            );
            world.sql(ddl);
            assert_eq!(runner(VIEW).run().success().kind, SuccessKind::Refreshed);
        }
        assert_eq!(runner(MAP).run().success().records, 1);
        let map = world.document("mapa:interrupcoes").unwrap();
        assert_eq!(map["interrupcoes"][0]["causa"], "poda");
    }
    world
        .runner(VIEW)
        .env("MAPA_DATABASE_VIEW", "mv_portal")
        .run()
        .failure(2);
    world.sql(&format!(
        "ALTER ROLE mapa_refresh IN DATABASE {} SET search_path = public, radar",
        world.database
    ));
    let unqualified = world.runner(VIEW).env("MAPA_DATABASE_VIEW", "mv_portal").run();
    assert_eq!(unqualified.success().records, 1);
}

#[test]
fn of_several_that_differ_by_case_the_one_that_is_written_is_taken_and_else_all_are_named() {
    let world = World::new();
    world.outage(1, 90, "");
    for name in ["MV_Portal", "Mv_PORTAL"] {
        upper_case(&world, name);
        world.sql(&format!("CREATE UNIQUE INDEX ON radar.\"{name}\" (\"LINHA\")"));
    }
    let at = |name: &str| world.runner(VIEW).env("MAPA_DATABASE_VIEW", name);
    let several = at("radar.mv_portal").run().failure(2);
    assert_eq!(several.code, "42702", "{several:?}");
    for part in ["radar.\"MV_Portal\"", "radar.\"Mv_PORTAL\"", "spec.database.view"] {
        assert!(several.message.contains(part), "{several:?}");
    }
    at("radar.Mv_PORTAL").run().success();
    let filled = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'm' AND relispopulated";
    assert_eq!(world.sql(filled), "Mv_PORTAL");
    upper_case(&world, "mv_portal");
    world.sql("CREATE UNIQUE INDEX ON radar.mv_portal (\"LINHA\")");
    at("radar.MV_PORTAL").run().success();
    assert_eq!(
        world.sql(&format!("{filled} AND relname = 'mv_portal'")),
        "mv_portal",
        "folded"
    );
}

#[test]
fn ddl_in_a_message_quotes_what_is_a_keyword() {
    let world = World::new();
    world.sql(
        "CREATE MATERIALIZED VIEW radar.\"order\" AS SELECT linha, id AS \"table\" FROM radar.interrupcao WITH NO DATA; \
         ALTER MATERIALIZED VIEW radar.\"order\" OWNER TO mapa_refresh",
    );
    let run = || {
        let others = "numero_ocorrencia codigo_ibge bairro latitude longitude data_inicio tipo status_codigo ucs_afetadas equipes_designadas causa \
                      previsao_restabelecimento";
        let columns: Vec<_> = others.split_whitespace().map(|name| format!("{name}=linha")).collect();
        world
            .runner(VIEW)
            .env("MAPA_DATABASE_VIEW", "radar.order")
            .env("MAPA_DATABASE_COLUMNS", &format!("id=table,{}", columns.join(",")))
            .run()
    };
    let message = run().failure(2).message;
    let (_, ddl) = message.split_once("has to run: ").unwrap();
    assert_eq!(
        ddl,
        "CREATE UNIQUE INDEX \"order_unico\" ON radar.\"order\" (\"table\");"
    );
    world.sql(ddl);
    run().success();
}

#[test]
fn columns_that_differ_by_case_alone_are_named() {
    let world = World::new();
    world.outage(1, 90, ", causa = 'poda'");
    world.remake_view(
        "SELECT *, causa AS \"Causa\", bairro AS \"TIPO \" FROM radar.interrupcao",
        "linha",
    );
    world.succeed(VIEW);
    assert_eq!(world.succeed(MAP).records, 1, "the folded one counts");
    world.remake_view(
        "SELECT linha, id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo, ucs_afetadas, \
         equipes_designadas, 'a' AS \"Causa\", 'b' AS \"CAUSA\", previsao_restabelecimento FROM radar.interrupcao",
        "linha",
    );
    world.succeed(VIEW);
    let several = world.runner(MAP).run().failure(2);
    assert_eq!(several.code, "42702", "{several:?}");
    for part in ["\"Causa\"", "\"CAUSA\"", "spec.database.columns"] {
        assert!(several.message.contains(part), "{several:?}");
    }
    let chosen = world.runner(MAP).env("MAPA_DATABASE_COLUMNS", "causa=CAUSA").run();
    chosen.success();
    assert_eq!(
        world.document("mapa:interrupcoes").unwrap()["interrupcoes"][0]["causa"],
        "b"
    );
}
