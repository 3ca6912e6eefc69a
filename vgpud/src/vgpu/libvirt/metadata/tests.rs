use proptest::prelude::*;

use super::*;

const ONE: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";
const TWO: &str = "4f0f2e64-2f4a-4c19-93f5-5f4a6d0f2c11";

fn domain(metadata: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><metadata>\
         <other xmlns='urn:other:1'><vgpus/></other>{metadata}</metadata></domain>"
    )
}

fn read(inside: &str) -> Result<Option<Metadata>, String> {
    let vgpus = format!("<v:vgpus xmlns:v='{NAMESPACE}'>{inside}</v:vgpus>");
    Metadata::of_domain(domain(&vgpus).as_bytes())
}

fn words(xml: &[u8]) -> String {
    Metadata::of_domain(xml).unwrap_err()
}

#[test]
fn a_domain_names_vgpus_that_are_created_and_ones_that_are_defined() {
    let read = read(&format!(
        "<v:vgpu uuid='{ONE}' parent='soft0' type='bochs-16m'>
           <v:attribute name='mode' value='1280x720'/>
           <!-- and a note -->
           <v:socket group='kvm' mode='0660'/>
         </v:vgpu>
         <v:vgpu uuid='{TWO}'/>"
    ));
    let request = CreateRequest {
        parent: "soft0".to_owned(),
        type_name: "bochs-16m".to_owned(),
        attributes: vec![Attribute {
            name: "mode".to_owned(),
            value: "1280x720".to_owned(),
        }],
        socket: SocketAccess {
            owner: None,
            group: Some("kvm".to_owned()),
            mode: Some("0660".to_owned()),
        },
        start: true,
    };
    let expected = Metadata {
        api: None,
        vgpus: vec![
            Vgpu {
                uuid: ONE.parse().unwrap(),
                created: Some(request),
            },
            Vgpu {
                uuid: TWO.parse().unwrap(),
                created: None,
            },
        ],
    };
    assert_eq!(read.unwrap().unwrap(), expected);
}

#[test]
fn a_domain_without_vgpus_is_passed_over_whatever_it_is() {
    for xml in [
        "",
        "<domain/>",
        "\u{0}",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>",
        &domain(""),
        &domain("<v:vgpus xmlns:v='urn:vgpud:domain:2'/>"),
        // In the wrong place, which libvirt would not keep.
        &format!("<domain><v:vgpus xmlns:v='{NAMESPACE}'/></domain>"),
        &format!("<domain><name>{NAMESPACE}</name></domain>"),
    ] {
        assert_eq!(Metadata::of_domain(xml.as_bytes()), Ok(None), "{xml}");
    }
    assert_eq!(Metadata::of_domain(b"\xff\xfe<domain/>"), Ok(None));
}

#[test]
fn what_is_not_understood_is_refused_in_words() {
    for (inside, expected) in [
        ("<v:vgpu/>", "no uuid"),
        ("<v:vgpu uuid=''/>", "a UUID is written in full"),
        ("<v:vgpu uuid='c2177883'/>", "a UUID is written in full"),
        ("<v:vgpu uuid='ONE' parent='soft0'/>", "parent and type"),
        ("<v:vgpu uuid='ONE' type='edu-1'/>", "parent and type"),
        (
            "<v:vgpu uuid='ONE'><v:socket group='kvm'/></v:vgpu>",
            "parent and type",
        ),
        ("<v:vgpu uuid='ONE' typ='edu-1'/>", "<vgpu typ=…>"),
        (
            "<v:vgpu uuid='ONE' v:type='edu-1'/>",
            "<vgpu type=…> is not understood",
        ),
        ("<v:vgpu uuid='ONE'>x</v:vgpu>", "text inside of <vgpu>"),
        ("<v:vgpu uuid='ONE'/><v:vgpu uuid='ONE'/>", "there twice"),
        ("<vgpu uuid='ONE'/>", "<vgpu> is not understood there"),
        ("<v:gpu uuid='ONE'/>", "<gpu> is not understood there"),
        (
            "<v:vgpu uuid='ONE' parent='p' type='t'><v:attribute name='a'/></v:vgpu>",
            "a name and a value",
        ),
        (
            "<v:vgpu uuid='ONE' parent='p' type='t'><v:attr name='a' value='b'/></v:vgpu>",
            "<attr> is not understood there",
        ),
        (
            "<v:vgpu uuid='ONE' parent='p' type='t'><v:socket mode='1'/><v:socket mode='1'/></v:vgpu>",
            "<socket> is there twice",
        ),
    ] {
        let error = read(&inside.replace("ONE", ONE)).unwrap_err();
        assert!(error.contains(expected), "{inside}: {error}");
    }
    let relative = format!("<v:vgpus xmlns:v='{NAMESPACE}' api='api.sock'/>");
    assert!(words(domain(&relative).as_bytes()).contains("no path from the root"));
    let twice = format!("<v:vgpus xmlns:v='{NAMESPACE}'/>").repeat(2);
    assert!(words(domain(&twice).as_bytes()).contains("<vgpus> is there twice"));
    let many: String = (0..=MAX_VGPUS)
        .map(|n| format!("<v:vgpu uuid='{}'/>", Uuid::from_u128(n as u128)))
        .collect();
    assert!(read(&many).unwrap_err().contains("at most 31"));
}

#[test]
fn hostile_xml_is_refused_and_expands_to_nothing() {
    let inside = format!("<x xmlns='{NAMESPACE}'/>");
    let bomb = format!(
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><domain>{inside}&b;</domain>"
    );
    assert!(
        words(bomb.as_bytes()).contains("DTD"),
        "{}",
        words(bomb.as_bytes())
    );
    let file = format!("<!DOCTYPE d [<!ENTITY a SYSTEM '/etc/passwd'>]><d>{inside}&a;</d>");
    assert!(words(file.as_bytes()).contains("DTD"));
    assert!(words(format!("<d>{inside}&b;</d>").as_bytes()).contains("entity"));
    // Not UTF-8, cut off, not XML.
    let mut bytes = domain(&inside).into_bytes();
    bytes.push(0xff);
    assert!(words(&bytes).contains("utf-8"));
    assert!(!words(format!("<domain>{inside}").as_bytes()).is_empty());
    assert!(!words(NAMESPACE.as_bytes()).is_empty());
    // Long, deep, and of many pieces.
    let long = format!("<d>{inside}{}</d>", " ".repeat(MAX_XML));
    assert!(words(long.as_bytes()).contains("longer than"));
    let deep = format!("{inside}{}", "<a>".repeat(MAX_XML / 4));
    assert!(!words(format!("<d>{deep}").as_bytes()).is_empty());
    let many = format!("<d>{inside}{}</d>", "<a/>".repeat(MAX_XML / 5));
    assert!(
        words(many.as_bytes()).contains("nodes"),
        "{}",
        words(many.as_bytes())
    );
}

fn request() -> impl Strategy<Value = CreateRequest> {
    let word = "[!-~]{1,8}";
    let text = "[^\\p{Cc}\u{fffe}\u{ffff}]{0,12}";
    let socket = (
        proptest::option::of(word),
        proptest::option::of(word),
        proptest::option::of(word),
    );
    let attributes = proptest::collection::vec((word, text), 0..4);
    (word, word, attributes, socket).prop_map(|(parent, type_name, attributes, socket)| {
        CreateRequest {
            parent,
            type_name,
            attributes: attributes
                .into_iter()
                .map(|(name, value)| Attribute { name, value })
                .collect(),
            socket: SocketAccess {
                owner: socket.0,
                group: socket.1,
                mode: socket.2,
            },
            start: true,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        requests in proptest::collection::vec(proptest::option::of(request()), 0..5),
        api in proptest::option::of("/[ -~]{0,12}"),
    ) {
        let vgpus = requests.into_iter().enumerate().map(|(n, created)| Vgpu {
            uuid: Uuid::from_u128(n as u128),
            created,
        });
        let metadata = Metadata { api: api.map(PathBuf::from), vgpus: vgpus.collect() };
        let mut text = String::new();
        metadata.write(&mut text, "    ");
        prop_assert_eq!(Metadata::of_domain(domain(&text).as_bytes()), Ok(Some(metadata)));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0usize..256) {
        let good = domain(&format!("<v:vgpus xmlns:v='{NAMESPACE}'><v:vgpu uuid='{ONE}'/></v:vgpus>"));
        let mut xml = good.into_bytes();
        let at = at.min(xml.len());
        let tail = xml.split_off(at);
        xml.append(&mut bytes);
        xml.extend(tail);
        let _ = Metadata::of_domain(&xml);
    }
}
