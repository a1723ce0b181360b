//! The harness itself.
use mapa_refresh_tests::*;
fn main() {
    let plane = control_plane::ControlPlane::start().unwrap();
    let node = node::Node::start(&plane).unwrap();
    let mut pg = postgres::Postgres::start().unwrap();
    seed::load(&pg).unwrap();
    let redis = redis::Redis::start().unwrap();
    println!("{}", plane.kubectl().run(["get", "nodes", "-o", "wide"]).unwrap());
    println!("{}", redis.command(&["PING"]).unwrap());
    println!("{:?}", pg.sql("refresh materialized view radar.mv_portal_publico; select count(*) from radar.mv_portal_publico"));
    pg.stop(); pg.resume().unwrap();
    let t = std::time::Instant::now();
    drop(node); drop(plane);
    println!("dropped in {:?}", t.elapsed());
}
