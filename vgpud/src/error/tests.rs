use super::*;

#[test]
fn each_refusal_has_the_errno_that_the_kernels_mdev_gives() {
    let uuid = Uuid::nil();
    let parent = || "soft0".to_owned();
    let type_name = || "bochs-4m".to_owned();
    let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    for (error, errno, status) in [
        (Error::Invalid("x".into()), "EINVAL", 422),
        (Error::Exists(uuid, "x".into()), "EEXIST", 409),
        (Error::NoInstance(uuid), "ENODEV", 404),
        (
            Error::NoPlace {
                parent: parent(),
                type_name: type_name(),
            },
            "EUSERS",
            409,
        ),
        (
            Error::NoVideoMemory {
                parent: parent(),
                type_name: type_name(),
            },
            "ENOSPC",
            409,
        ),
        (Error::os("write")(full), "ENOSPC", 507),
        (Error::os("write")(io::Error::other("odd")), "EIO", 500),
    ] {
        let problem = error.problem();
        assert_eq!(
            (problem.errno.as_str(), problem.status),
            (errno, status),
            "{error}"
        );
        assert!(!problem.title.is_empty());
    }
}

#[test]
fn the_words_of_each_refusal_are_in_the_page_on_troubles() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let uuid = Uuid::nil();
    let (parent, type_name) = ("p".to_owned(), "t".to_owned());
    for (error, words) in [
        (Error::NoInstance(uuid), "there is no vGPU"),
        (Error::NoDefinition(parent.clone(), uuid), "is not defined"),
        (Error::NoParent(parent.clone()), "there is no parent"),
        (
            Error::NoType {
                parent: parent.clone(),
                type_name: type_name.clone(),
            },
            "offers no type",
        ),
        (
            Error::Exists(uuid, String::new()),
            "is there already, and is not what is asked for",
        ),
        (
            Error::NoPlace {
                parent: parent.clone(),
                type_name: type_name.clone(),
            },
            "no place is free",
        ),
        (
            Error::NoVideoMemory { parent, type_name },
            "too little video memory left",
        ),
        (Error::NoUser, "no user is free for its worker"),
        (Error::Busy(uuid), "a VMM is connected"),
        (Error::NotRunning(uuid), "does not run"),
        (Error::Mute(uuid, String::new()), "does not answer"),
        (
            Error::Stillborn(uuid, String::new()),
            "ended before it was ready",
        ),
        (
            Error::NotTakenOver(uuid, String::new()),
            "no other worker takes over",
        ),
        (Error::NotKept(uuid), "cannot be replaced while it serves"),
        (
            Error::ConsoleElsewhere(uuid),
            "takes no viewers at that address",
        ),
        (
            Error::ConsoleStillborn(uuid, String::new()),
            "does not start",
        ),
    ] {
        check_page(page, &error, words);
    }
}

#[test]
fn the_words_of_physical_devices_are_there_as_well() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let parent = || "p".to_owned();
    for (error, words) in [
        (
            Error::Seated(Uuid::nil()),
            "shares the worker of its parent",
        ),
        (
            Error::Device(parent(), HostError::InUse(7)),
            "is not to be had",
        ),
        (
            Error::DeviceStillborn(parent(), String::new()),
            "ended before it was ready",
        ),
        (
            Error::Locked {
                parent: parent(),
                message: HostError::MemoryLock.to_string(),
            },
            "no more memory can be locked for the device",
        ),
    ] {
        check_page(page, &error, words);
        assert!(error.remedy().is_some(), "{error}");
    }
}

fn check_page(page: &str, error: &Error, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
    assert!(page.contains(words), "{words}");
}
