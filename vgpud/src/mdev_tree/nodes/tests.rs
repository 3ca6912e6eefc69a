use super::*;

const UUID: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";

fn path(text: &str) -> Vec<String> {
    let names = text.split('/').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn device() -> Device<'static> {
    Device {
        parent: "soft0",
        uuid: UUID.parse().unwrap(),
    }
}

const OF: Type<'_> = Type {
    parent: "soft0",
    name: "edu-1",
};

#[test]
fn each_path_of_the_kernels_tree_is_what_it_is_there() {
    let parent = "sys/devices/virtual/vgpud/soft0";
    let of_type = format!("{parent}/mdev_supported_types/edu-1");
    let of_device = format!("{parent}/{UUID}");
    for (text, expected) in [
        (
            "sys/class/mdev_bus/soft0".to_owned(),
            Node::Link(Link::Parent("soft0")),
        ),
        (
            format!("sys/bus/mdev/devices/{UUID}"),
            Node::Link(Link::Device(device().uuid)),
        ),
        (parent.to_owned(), Node::Folder(Folder::Parent("soft0"))),
        (
            format!("{parent}/mdev_supported_types"),
            Node::Folder(Folder::Types("soft0")),
        ),
        (
            format!("{parent}/policy"),
            Node::File(File::Policy("soft0")),
        ),
        (of_type.clone(), Node::Folder(Folder::Type(OF))),
        (format!("{of_type}/create"), Node::File(File::Create(OF))),
        (
            format!("{of_type}/devices/{UUID}"),
            Node::Link(Link::TypeDevice(OF, device().uuid)),
        ),
        (of_device.clone(), Node::Folder(Folder::Device(device()))),
        (
            format!("{of_device}/remove"),
            Node::File(File::Remove(device())),
        ),
        (
            format!("{of_device}/mdev_type"),
            Node::Link(Link::MdevType(device())),
        ),
        (
            format!("{of_device}/dma"),
            Node::File(File::Attribute(device(), "dma")),
        ),
        (
            format!("{of_device}/statistics/pid"),
            Node::File(File::Statistic(device(), "pid")),
        ),
    ] {
        assert_eq!(find(&path(&text)), Some(expected), "{text}");
    }
}

#[test]
fn what_no_row_names_is_nothing() {
    let parent = "sys/devices/virtual/vgpud/soft0";
    for text in [
        "nothing".to_owned(),
        "sys/nothing".to_owned(),
        "etc/mdevctl.d/soft0".to_owned(),
        "sys/class/mdev_bus/soft0/x".to_owned(),
        "sys/bus/mdev/devices/x".to_owned(),
        format!("{parent}/x"),
        format!("{parent}/{}", UUID.to_uppercase()),
        format!("{parent}/{}", UUID.replace('-', "")),
        format!("{parent}/{{{UUID}}}"),
        format!("{parent}/mdev_supported_types/edu-1/x"),
        format!("{parent}/mdev_supported_types/edu-1/create/x"),
        format!("{parent}/{UUID}/statistics/pid/x"),
        "a/".repeat(500),
    ] {
        assert_eq!(find(&path(&text)), None, "{text}");
    }
}

#[test]
fn what_stands_in_a_listing_is_a_row() {
    for name in IN_TYPE {
        assert!(of_type(OF, &[name]).is_some(), "{name}");
    }
    for name in IN_DEVICE {
        let node = of_device(device(), &[name]).unwrap();
        assert!(!matches!(node, Node::File(File::Attribute(..))), "{name}");
    }
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let Some(Node::Folder(Folder::Fixed(names))) = find(&path) else {
            assert!(find(&path).is_some(), "{path:?}");
            continue;
        };
        for name in names {
            open.push(path.iter().cloned().chain([(*name).to_owned()]).collect());
        }
    }
}

#[test]
fn modes_are_the_kernels() {
    for (file, mode) in [
        (File::Create(OF), 0o200),
        (File::Remove(device()), 0o200),
        (File::OfType(OF, TypeText::AvailableInstances), 0o444),
        (File::OfDevice(device(), DeviceText::Socket), 0o444),
        (File::Attribute(device(), "dma"), 0o644),
    ] {
        assert_eq!(file.mode(), mode, "{file:?}");
    }
}
