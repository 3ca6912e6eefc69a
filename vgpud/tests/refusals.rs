//! Bad input: the right status, errno and words, and nothing changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use support::host::Everything;
use support::http::Refused;
use support::{Daemon, uuid};
use vgpud::api::{DefinitionRequest, StartMode};

const JSON: &str = "application/json";

/// A daemon that has to refuse, and what there is as long as it does.
struct Refuser {
    daemon: Daemon,
    before: Everything,
}

impl Refuser {
    fn new(daemon: Daemon) -> Self {
        let before = daemon.everything();
        Self { daemon, before }
    }

    /// One vGPU runs, and one is defined.
    fn in_use() -> Self {
        let daemon = Daemon::start();
        daemon.create(uuid(1), "edu-1");
        let kept = DefinitionRequest {
            type_name: "serial-1".to_owned(),
            start: StartMode::Manual,
            attributes: Vec::new(),
        };
        daemon.client.define("soft0", uuid(2), &kept).unwrap();
        Self::new(daemon)
    }

    fn check(&self, (method, path): (&str, &str), body: &[u8], refused: Refused<'_>) {
        let shown: String = String::from_utf8_lossy(body).chars().take(100).collect();
        let case = format!("{method} {path} {shown}");
        let answer = self.daemon.raw(method, path, JSON, body);
        answer.assert_refused(refused, &case);
        assert_eq!(self.daemon.everything(), self.before, "{case}");
    }
}

/// Bodies of a creation that are refused, whatever the UUID.
const BODIES: &[(&str, Refused<'_>)] = &[
    ("", (400, "EINVAL", "EOF")),
    ("{", (400, "EINVAL", "EOF")),
    ("\u{feff}{}", (400, "EINVAL", "expected value at line 1")),
    (r#"{"parent":NaN}"#, (400, "EINVAL", "column 11")),
    (r#"{"parent":"soft\ud800"}"#, (400, "EINVAL", "parent: ")),
    (
        r#"{"parent":"soft0","type":"edu-1"}}"#,
        (400, "EINVAL", "trailing characters"),
    ),
    ("[]", (422, "EINVAL", "expected struct CreateRequest")),
    (
        r#"["soft0","edu-1",[],{},true]"#,
        (422, "EINVAL", "expected struct CreateRequest"),
    ),
    ("{}", (422, "EINVAL", "missing field `parent`")),
    (
        r#"{"parent":"soft0"}"#,
        (422, "EINVAL", "missing field `type`"),
    ),
    (
        r#"{"parent":0,"type":"edu-1"}"#,
        (422, "EINVAL", "parent: invalid type: integer"),
    ),
    (
        r#"{"parent":"soft0","type":null}"#,
        (422, "EINVAL", "type: invalid type: null"),
    ),
    (
        r#"{"parent":"soft1","type":"edu-1"}"#,
        (404, "ENODEV", "no parent 'soft1'"),
    ),
    (
        r#"{"parent":"../soft0","type":"edu-1"}"#,
        (404, "ENODEV", "no parent '../soft0'"),
    ),
    (
        r#"{"parent":"","type":""}"#,
        (404, "ENODEV", "no parent ''"),
    ),
    (
        r#"{"parent":"soft0","type":"edu-9"}"#,
        (404, "ENOENT", "no type 'edu-9'"),
    ),
    (
        r#"{"parent":"soft0","type":"../edu-1"}"#,
        (404, "ENOENT", "no type '../edu-1'"),
    ),
];

/// What is wrong beside a good parent and type, and words of the refusal: EINVAL each.
const FIELDS: &[(&str, &str)] = &[
    (r#""colour":1"#, "unknown field `colour`"),
    (r#""type":"edu-1""#, "duplicate field `type`"),
    (r#""start":"no""#, "start: invalid type"),
    (r#""start":null"#, "start: invalid type"),
    (r#""attributes":null"#, "attributes: invalid type"),
    (r#""attributes":{"dma":"pin"}"#, "attributes: invalid type"),
    (
        r#""attributes":[["dma","pin"]]"#,
        "expected struct Attribute",
    ),
    (r#""attributes":[{"name":"dma"}]"#, "missing field `value`"),
    (
        r#""attributes":[{"name":"dma","value":1}]"#,
        "attributes[0].value: invalid type",
    ),
    (
        r#""attributes":[{"name":"","value":""}]"#,
        "is no name of an attribute",
    ),
    (
        r#""attributes":[{"name":"../x","value":""}]"#,
        "is no name of an attribute",
    ),
    (
        r#""attributes":[{"name":"x","value":"1"}]"#,
        "attribute 'x'",
    ),
    (
        r#""attributes":[{"name":"dma","value":"x"}]"#,
        "'dma' cannot be 'x'",
    ),
    (
        r#""attributes":[{"name":"dma","value":"pin\u0000"}]"#,
        "control characters",
    ),
    (r#""socket":null"#, "expected struct SocketAccess"),
    (r#""socket":[]"#, "expected struct SocketAccess"),
    (r#""socket":{"mode":"rw"}"#, "'rw' is no mode"),
    (r#""socket":{"mode":"04755"}"#, "'04755' is no mode"),
    (r#""socket":{"mode":432}"#, "socket.mode: invalid type"),
    (r#""socket":{"owner":"no such user"}"#, "no user"),
    (r#""socket":{"group":"no such group"}"#, "no group"),
    (r#""socket":{"group":"4294967295"}"#, "nobody's number"),
    (r#""socket":{"colour":1}"#, "unknown field `colour`"),
];

#[test]
fn a_bad_creation_is_refused_with_its_errno_and_leaves_nothing() {
    let refuser = Refuser::new(Daemon::start());
    let good = format!("/v1/instances/{}", uuid(1));
    let refuse = |body: &str, refused| {
        for request in [("PUT", good.as_str()), ("POST", "/v1/instances")] {
            refuser.check(request, body.as_bytes(), refused);
        }
    };
    for &(body, refused) in BODIES {
        refuse(body, refused);
    }
    let with = |field: &str| format!(r#"{{"parent":"soft0","type":"edu-1",{field}}}"#);
    for &(field, words) in FIELDS {
        refuse(&with(field), (422, "EINVAL", words));
    }
    let attribute = r#"{"name":"dma","value":"pin"}"#;
    let many = vec![attribute; 65].join(",");
    let deep = "[".repeat(10_000);
    for (field, words) in [
        (format!("\"attributes\":[{many}]"), "at most 64"),
        (attribute_of("dma", &"x".repeat(257)), "is too long"),
        (attribute_of(&"x".repeat(65), ""), "is no name"),
        (format!("\"attributes\":{deep}"), "expected struct"),
    ] {
        refuse(&with(&field), (422, "EINVAL", words));
    }
    refuse(&"x".repeat(100_000), (413, "EMSGSIZE", "length limit"));
    refuser.check(
        ("PUT", &good),
        b"{\"parent\":\"soft\xff\"}",
        (400, "EINVAL", "unicode"),
    );
    // After all that it still does what is right.
    refuser.daemon.create(uuid(1), "edu-1");
}

fn attribute_of(name: &str, value: &str) -> String {
    format!(r#""attributes":[{{"name":"{name}","value":"{value}"}}]"#)
}

#[test]
fn a_bad_change_or_definition_is_refused_and_changes_nothing() {
    let refuser = Refuser::in_use();
    let instance = format!("/v1/instances/{}", uuid(1));
    for (body, words) in [
        ("{}", "missing field `attributes`"),
        (r#"{"attributes":[]}"#, "no attribute is given"),
        (r#"{"attributes":[["dma","copy"]]}"#, "expected struct"),
        (
            r#"{"attributes":[{"name":"x","value":"1"}]}"#,
            "no attribute 'x'",
        ),
        (
            r#"{"attributes":[{"name":"dma","value":"copy"},{"name":"dma","value":"x"}]}"#,
            "'dma' cannot be 'x'",
        ),
        (
            r#"{"attributes":[{"name":"dma","value":"copy"},{"name":"dma-mask","value":"99"}]}"#,
            "'dma-mask' cannot be '99'",
        ),
    ] {
        let refused = (422, "EINVAL", words);
        refuser.check(("PATCH", &instance), body.as_bytes(), refused);
        let status = refuser.daemon.client.status(uuid(1)).unwrap();
        let dma = status.attributes.iter().find(|kept| kept.name == "dma");
        assert_eq!(dma.unwrap().value, "pin", "{body}");
    }
    let state = format!("{instance}/state");
    refuser.check(("PUT", &state), b"", (422, "EINVAL", "cut off"));
    refuser.check(("PUT", &state), &[0; 4096], (422, "EINVAL", ""));
    let definition = format!("/v1/definitions/soft0/{}", uuid(2));
    for (body, refused) in [
        ("[]", (422, "EINVAL", "expected struct DefinitionRequest")),
        (
            r#"{"type":"edu-1","parent":"x"}"#,
            (422, "EINVAL", "`parent`"),
        ),
        (
            r#"{"type":"edu-1","start":{"auto":null}}"#,
            (422, "EINVAL", "start: invalid type: map"),
        ),
        (
            r#"{"type":"edu-1","start":"now"}"#,
            (422, "EINVAL", "unknown variant `now`"),
        ),
        (
            r#"{"type":"edu-1","attributes":[{"name":"a=b","value":""}]}"#,
            (422, "EINVAL", "is no name"),
        ),
        (r#"{"type":"edu-9"}"#, (404, "ENOENT", "no type 'edu-9'")),
    ] {
        refuser.check(("PUT", &definition), body.as_bytes(), refused);
    }
}

#[test]
fn a_bad_uuid_or_kind_of_body_is_refused() {
    let refuser = Refuser::new(Daemon::start());
    let body = br#"{"parent":"soft0","type":"edu-1"}"#;
    let good = format!("/v1/instances/{}", uuid(1));
    let answer = refuser.daemon.raw("PUT", &good, "text/plain", body);
    answer.assert_refused(
        (415, "EINVAL", "application/json"),
        "a body of another kind",
    );
    assert_eq!(refuser.daemon.everything(), refuser.before);
    let simple = uuid(1).simple().to_string();
    for bad in [
        "x",
        "..",
        "%00",
        "%ff",
        &format!("{}%00", uuid(1)),
        &format!("..%2f{}", uuid(1)),
        "11111111-2222-3333-4444-55555555555",
        // What is a UUID too, but not as the document has it.
        &simple,
        &format!("%7B{}%7D", uuid(1)),
        &format!("urn:uuid:{}", uuid(1)),
    ] {
        let refused = (400, "EINVAL", "`uuid`");
        refuser.check(("PUT", &format!("/v1/instances/{bad}")), body, refused);
        let definition = format!("/v1/definitions/soft0/{bad}");
        refuser.check(("PUT", &definition), body, refused);
    }
}

#[test]
fn every_operation_on_a_uuid_takes_it_as_the_document_has_it_and_no_other_way() {
    let refuser = Refuser::in_use();
    let document = refuser.daemon.raw("GET", "/v1/openapi.json", JSON, b"");
    let document = document.json();
    let paths = document["paths"].as_object().unwrap();
    let simple = uuid(1).simple().to_string();
    for (path, operations) in paths.iter().filter(|(path, _)| path.contains("{uuid}")) {
        let path = path.replace("{parent}", "soft0").replace("{uuid}", &simple);
        for method in operations.as_object().unwrap().keys() {
            let (method, refused) = (method.to_uppercase(), (400, "EINVAL", "`uuid`"));
            refuser.check((&method, &path), b"", refused);
        }
    }
}
