//! Databases that keep text in other encodings, and bytes that are none in theirs.

use mapa_refresh_job_runner::database::postgres::encoding::Encoding;

use crate::{servers::Postgres, world::World};

const VIEW: &str = "refresh-mv-portal";
const MAP: &str = "refresh-mapa-cache";
const STATISTICS: &str = "calcular-estatisticas";

#[test]
fn one_byte_that_the_encoding_does_not_have_costs_that_character_alone() {
    for (encoding, bytes, expected) in [
        (
            "WIN1252",
            r"\xC3\x81rvore em S\xE3o Jos\xE9 \x80",
            "Ã\u{fffd}rvore em São José €",
        ),
        ("SQL_ASCII", r"\xC1rvore", "\u{fffd}rvore"),
        ("SQL_ASCII", r"\xC3\x81rvore", "Árvore"),
        ("LATIN1", r"\xC1rvore", "Árvore"),
        ("LATIN9", r"\xC1rvore \xA4", "Árvore €"),
        ("WIN1250", r"\xC1rvore \x83", "Árvore \u{fffd}"),
        ("UTF8", r"\xC3\x81rvore", "Árvore"),
        ("EUC_JP", r"\xC6\xFC\xCB\xDC", "日本"),
    ] {
        let options = format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        let world = World::with(Postgres::shared(), &options);
        world.outage(1, 90, "");
        world.outage(2, 30, "");
        world.sql(&format!(
            "SET client_encoding = '{encoding}'; UPDATE radar.interrupcao SET causa = E'{bytes}' WHERE id = 1"
        ));
        world.succeed(VIEW);
        assert_eq!(world.succeed(MAP).records, 2, "{encoding}");
        assert_eq!(world.succeed(STATISTICS).records, 2, "{encoding}");
        let map = world.document("mapa:interrupcoes").unwrap();
        assert_eq!(map["interrupcoes"][0]["causa"], expected, "{encoding}");
        assert_eq!(map["interrupcoes"][1]["bairro"], "Centro", "{encoding}");
    }
}

#[test]
fn names_that_cannot_be_converted_stop_nothing() {
    let options = "ENCODING 'WIN1252' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    let world = World::with(Postgres::shared(), options);
    world.outage(1, 90, "");
    // Beside the view: other views, other columns, other schemas.
    world.sql(
        "SET client_encoding = 'SQL_ASCII'; DO $$ DECLARE odd text := 'x' || chr(129); BEGIN \
         EXECUTE format('CREATE SCHEMA %I', odd); EXECUTE format('CREATE TABLE radar.%I (%I int)', odd, odd); \
         EXECUTE format('ALTER TABLE radar.interrupcao ADD COLUMN %I text', odd); END $$",
    );
    world.remake_view("SELECT * FROM radar.interrupcao", "linha");
    world.succeed(VIEW);
    assert_eq!(world.succeed(MAP).records, 1);
}

/// What PostgreSQL makes of each byte from 80 to FF, and U+FFFD where it refuses it.
const TABLE: &str = "
CREATE FUNCTION pg_temp.read(b bytea, e name) RETURNS text LANGUAGE plpgsql AS
    $f$ BEGIN RETURN convert_from(b, e); EXCEPTION WHEN others THEN RETURN chr(65533); END $f$;
SELECT string_agg(ascii(pg_temp.read(set_byte('\\x00', 0, n), 'NAME'))::text, ' ' ORDER BY n) FROM generate_series(128, 255) n";

#[test]
fn each_byte_is_the_character_that_the_server_would_make_of_it() {
    let postgres = Postgres::shared();
    let mut known = 0;
    for name in "LATIN1 LATIN2 LATIN3 LATIN4 LATIN5 LATIN6 LATIN7 LATIN8 LATIN9 LATIN10 ISO_8859_5 ISO_8859_6 ISO_8859_7 ISO_8859_8 KOI8R KOI8U \
                 WIN866 WIN874 WIN1250 WIN1251 WIN1252 WIN1253 WIN1254 WIN1255 WIN1256 WIN1257 WIN1258"
        .split_whitespace()
    {
        let encoding = Encoding::named(name);
        if encoding == Encoding::Converted {
            continue;
        }
        known += 1;
        let servers: Vec<u32> = postgres
            .sql("postgres", &TABLE.replace("NAME", name))
            .split_whitespace()
            .map(|point| point.parse().unwrap())
            .collect();
        let ours: Vec<u32> = (128..=255_u8)
            .map(|byte| u32::from(encoding.decode(&[byte]).chars().next().unwrap()))
            .collect();
        let differ: Vec<_> = (128..=255)
            .zip(servers.iter().zip(&ours))
            .filter(|(_, (server, ours))| server != ours)
            .map(|(byte, (server, ours))| format!("{name} {byte:02x}: {server:x} {ours:x}"))
            // A vowel point that the code page got later.
            .filter(|differs| differs != "WIN1255 ca: fffd 5ba")
            .collect();
        assert!(differ.is_empty(), "{differ:?}");
    }
    assert!(known > 20, "{known}");
}

#[test]
fn whatever_the_types_of_the_columns_each_row_is_read() {
    let world = World::new();
    world.outage(1, 90, "");
    world.remake_view(
        "SELECT linha, to_json(id::int) AS id, point(1, 2) AS numero_ocorrencia, codigo_ibge::bytea AS codigo_ibge, ARRAY[bairro] AS bairro, \
         'NaN'::numeric AS latitude, 'Infinity'::float8 AS longitude, data_inicio::text::xml AS data_inicio, tipo::name AS tipo, status_codigo, \
         to_jsonb(ucs_afetadas) AS ucs_afetadas, equipes_designadas, E'\\\\x00'::bytea AS causa, 'infinity'::timestamp AS previsao_restabelecimento \
         FROM radar.interrupcao",
        "linha",
    );
    world.succeed(VIEW);
    assert_eq!(world.succeed(MAP).records, 1);
}
