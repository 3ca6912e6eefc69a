use super::*;

fn find(text: &str) -> Result<Vec<ParentSpec>, String> {
    let config = Config::parse(text).unwrap();
    let nowhere = Paths::new(Path::new("/nonexistent"));
    find_parents(&config, &nowhere).map_err(|error| error.to_string())
}

#[test]
fn without_a_configuration_every_type_is_offered_that_is_no_function_of_others() {
    let parents = find("").unwrap();
    assert_eq!(parents.len(), 1);
    let all = drivers::DRIVERS.iter().flat_map(|driver| driver.types());
    let whole = all.filter(|spec| !functions::is_function(&spec.name));
    let offered: Vec<_> = parents[0]
        .types
        .iter()
        .map(|offered| &offered.name)
        .collect();
    let whole: Vec<_> = whole.map(|spec| spec.name).collect();
    assert_eq!(offered, whole.iter().collect::<Vec<_>>());
    assert!(parents[0].limits.video_memory > 0);
}

#[test]
fn types_are_added_renamed_and_limited() {
    let parents = find(
        r#"
        [parents.soft0]
        instances = 3
        video-memory = "1G"
        offer = ["serial-1", "desktop", "wide"]
        limits = { desktop = 1 }
        [[types]]
        name = "desktop"
        base = "bochs-16m"
        title = "a desktop"
        attributes = { mode = "800x600" }
        replaces-base = true
        [[types]]
        name = "wide"
        base = "bochs-64m"
        video-memory = "1M"
        "#,
    )
    .unwrap();
    let soft = &parents[0];
    let names: Vec<_> = soft
        .types
        .iter()
        .map(|offered| offered.name.as_str())
        .collect();
    assert_eq!(names, ["serial-1", "desktop", "wide"]);
    let desktop = soft.find_type("desktop").unwrap();
    assert_eq!(desktop.base, "bochs-16m");
    assert_eq!(desktop.attributes[0].value, "800x600");
    assert_eq!(desktop.share.limit, Some(1));
    assert_eq!(soft.find_type("wide").unwrap().share.video_memory, 1 << 20);
    assert_eq!(soft.limits.instances, 3);
}

#[test]
fn a_device_that_the_configuration_names_is_a_parent() {
    let parents = find("[parents.gpu1]\ndevice = \"/dev/gpu1\"").unwrap();
    assert_eq!(parents[1].name, "gpu1");
    assert!(parents[1].description.contains("nothing at that path"));
    assert!(parents[1].types.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (text, words) in [
        (
            "[parents.card9]",
            "parents.card9: this host has no such parent",
        ),
        ("[parents.soft0]\ndevice = \"/dev/null\"", "found without"),
        (
            "[parents.\"a/b\"]\ndevice = \"/dev/null\"",
            "cannot be called so",
        ),
        (
            "[parents.soft0]\ndirect = true",
            "of devices that vfio-pci has",
        ),
        (
            "[parents.\"0000:01:00.0\"]\ndevice = \"/dev/null\"",
            "found without",
        ),
        ("[parents.soft0]\noffer = [\"x-1\"]", "it has no type 'x-1'"),
        (
            "[parents.soft0]\nlimits = { x-1 = 1 }",
            "it has no type 'x-1'",
        ),
        (
            "[[types]]\nname = \"a/b\"\nbase = \"edu-1\"",
            "'a/b' is no name",
        ),
        (
            "[[types]]\nname = \"edu-1\"\nbase = \"edu-1\"",
            "two of 'edu-1'",
        ),
        (
            "[[types]]\nname = \"a\"\nbase = \"b\"",
            "which no driver of devices in software has",
        ),
        (
            "[[types]]\nname = \"a\"\nbase = \"bochs-slice-4m\"",
            "which no driver of devices in software has",
        ),
    ] {
        let error = find(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_pci_device_may_be_given_to_the_daemon_later() {
    let parents = find("[parents.\"0000:01:00.0\"]\ninstances = 4").unwrap();
    assert_eq!(parents.len(), 1);
}
