//! What is not there: paths, methods, vGPUs, definitions; told in one form, and nothing changes.

mod support;

use support::http::Refused;
use support::{Daemon, uuid};

const JSON: &str = "application/json";

fn check(daemon: &Daemon, (method, path): (&str, &str), refused: Refused<'_>) {
    let before = daemon.everything();
    let case = format!("{method} {path}");
    let answer = daemon.raw(method, path, JSON, br#"{"type":"edu-1"}"#);
    answer.assert_refused(refused, &case);
    assert!(!answer.json()["remedy"].is_null(), "{case}: {answer:?}");
    assert_eq!(daemon.everything(), before, "{case}");
}

#[test]
fn a_path_that_leads_nowhere_or_elsewhere_is_told() {
    let daemon = Daemon::start();
    let uuid = uuid(1);
    for path in [
        "/",
        "*",
        "/v1/nothing",
        "/v1/parents/",
        "//v1/parents",
        "/v1/parents/../types",
        &format!("/v1/instances/../{uuid}"),
        &format!("/v1/instances/{uuid}/"),
        &format!("/v1/definitions/../soft0/{uuid}"),
        &format!("/v1/{}", "x".repeat(9000)),
    ] {
        check(&daemon, ("GET", path), (404, "ENOENT", "nothing at "));
    }
    for parent in ["x", "..", "%2e%2e", "soft0%00", "soft0%2f", "..%2f..%2fetc"] {
        let path = format!("/v1/parents/{parent}");
        check(&daemon, ("GET", &path), (404, "ENODEV", "no parent "));
        let path = format!("/v1/definitions/{parent}/{uuid}");
        for method in ["GET", "PUT", "DELETE"] {
            check(&daemon, (method, &path), (404, "ENODEV", "no parent "));
        }
    }
    assert_eq!(support::names(&daemon.path("etc")), ["vgpud"]);
}

#[test]
fn a_method_that_is_not_for_a_path_is_told_with_those_that_are() {
    let daemon = Daemon::start();
    let instance = format!("/v1/instances/{}", uuid(1));
    for (method, path, allowed) in [
        ("POST", "/v1/parents", "get,head"),
        ("DELETE", "/v1/instances", "get,head,post"),
        ("OPTIONS", "/v1/instances", "get,head,post"),
        ("BREW", "/v1/instances", "get,head,post"),
        ("POST", &instance, "get,head,put,delete,patch"),
        ("GET", &format!("{instance}/start"), "post"),
        ("PUT", "/metrics", "get,head"),
    ] {
        let words = format!("{method} is not for {path}");
        let answer = daemon.raw(method, path, JSON, b"");
        answer.assert_refused((405, "EOPNOTSUPP", &words), &words);
        let line = answer
            .headers
            .lines()
            .find(|line| line.starts_with("allow: "));
        let mut found: Vec<_> = line.unwrap()["allow: ".len()..].split(',').collect();
        let mut expected: Vec<_> = allowed.split(',').collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{words}");
    }
}

#[test]
fn a_vgpu_or_definition_that_is_not_there_is_told() {
    let daemon = Daemon::start();
    let instance = format!("/v1/instances/{}", uuid(1));
    for (method, end) in [
        ("GET", ""),
        ("DELETE", ""),
        ("DELETE", "?force=true"),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("GET", "/status"),
        ("GET", "/screenshot"),
        ("GET", "/state"),
        ("PUT", "/state"),
    ] {
        let path = format!("{instance}{end}");
        check(&daemon, (method, &path), (404, "ENODEV", "no vGPU "));
    }
    let definition = format!("/v1/definitions/soft0/{}", uuid(1));
    for method in ["GET", "DELETE"] {
        let refused = (404, "ENOENT", "is not defined on soft0");
        check(&daemon, (method, &definition), refused);
    }
}

#[test]
fn a_bad_query_is_refused_and_forces_nothing() {
    let daemon = Daemon::start();
    daemon.create(uuid(1), "edu-1");
    let before = daemon.everything();
    let instance = format!("/v1/instances/{}", uuid(1));
    for (query, words) in [
        ("force=perhaps", "`true` or `false`"),
        ("force=", "`true` or `false`"),
        ("force=true&force=false", "duplicate field `force`"),
        ("colour=1", "unknown field `colour`"),
    ] {
        for (method, path) in [
            ("DELETE", format!("{instance}?{query}")),
            ("POST", format!("{instance}/stop?{query}")),
        ] {
            let answer = daemon.raw(method, &path, JSON, b"");
            answer.assert_refused((400, "EINVAL", words), &path);
            assert_eq!(daemon.everything(), before, "{path}");
        }
    }
}
