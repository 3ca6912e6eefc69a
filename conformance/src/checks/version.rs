//! VERSION: what is answered, and what with.

use serde_json::Value;
use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{Client, OFFER};
use crate::payload::{self, version, words};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_VERSION" {
        version_is_answered:
            "A server of this protocol answers version 0.0 with all of its capabilities offered.";
        version_without_json_is_answered:
            "The JSON of VERSION is optional.";
        version_with_an_empty_object_is_answered:
            "The member capabilities is optional.";
        version_with_empty_capabilities_is_answered:
            "Every capability is optional.";
        version_with_unknown_capabilities_is_answered:
            "A capability that the server does not know is one that it does not agree on.";
        version_with_unknown_members_is_answered:
            "What stands beside the capabilities is for later versions.";
        version_reply_has_the_same_major:
            "The major version of the reply is that of the request.";
        version_reply_has_at_most_the_offered_minor:
            "The minor version of the reply is that of the request, or less.";
        version_of_a_later_minor_is_answered:
            "A client of a later minor version is answered with the server's own.";
        version_reply_ends_with_a_nul:
            "The JSON of the reply ends with a NUL, like that of the request.";
        version_reply_is_an_object:
            "The JSON of the reply is an object, and its capabilities are one.";
        version_reply_names_only_what_was_offered:
            "The capabilities of the reply are a subset of those that were offered.";
        version_reply_to_no_capabilities_names_none:
            "Where nothing was offered nothing can be agreed on.";
        version_reply_has_the_types_of_the_table:
            "Each capability of the reply has the type that the table of capabilities gives it.";
        version_reply_has_numbers_that_are_possible:
            "A server takes at least one descriptor, one byte, one mapping and one page size.";
    }
    "Connection Initiation" {
        version_comes_first:
            "The first message of a client is VERSION; nothing else is served before it.";
        a_reply_before_version_is_not_served:
            "A reply is not the VERSION that comes first.";
        version_comes_once:
            "VERSION is the initial message, so a second one agrees on nothing.";
        version_of_another_major_is_not_agreed_on:
            "A server closes, or refuses, where it does not support the major version.";
        commands_right_behind_version_are_served:
            "A client may send more before it was answered, from the first message on.";
    }
}

fn answered(target: &Target, text: &str) -> Result<Client, Unmet> {
    let mut client = target.client_offering(text)?;
    client.is_in_step()?;
    Ok(client)
}

fn version_is_answered(target: &Target) -> Verdict {
    answered(target, OFFER).map(drop)
}

fn version_without_json_is_answered(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let message = connection.accepts(Command::Version as u16, &version(0, 0, b""), &[])?;
    Client::agreed(connection, message)?.is_in_step()
}

fn version_with_an_empty_object_is_answered(target: &Target) -> Verdict {
    answered(target, "{}").map(drop)
}

fn version_with_empty_capabilities_is_answered(target: &Target) -> Verdict {
    answered(target, r#"{"capabilities":{}}"#).map(drop)
}

fn version_with_unknown_capabilities_is_answered(target: &Target) -> Verdict {
    for unknown in [
        r#""x_of_the_suite":true"#,
        r#""x":{"y":[1,2,{"z":null}]}"#,
        r#""x":"text","max_msg_fds":4"#,
    ] {
        answered(target, &format!(r#"{{"capabilities":{{{unknown}}}}}"#)).within(unknown)?;
    }
    Ok(())
}

fn version_with_unknown_members_is_answered(target: &Target) -> Verdict {
    answered(
        target,
        r#"{"x":[1],"capabilities":{"max_msg_fds":4},"y":{}}"#,
    )
    .map(drop)
}

fn version_reply_has_the_same_major(target: &Target) -> Verdict {
    let major = target.client()?.major;
    ensure!(major == 0, "0 was offered, {major} answered");
    Ok(())
}

fn version_reply_has_at_most_the_offered_minor(target: &Target) -> Verdict {
    for offered in [0, 1, 2, 3] {
        let client = Client::negotiate(target.connect()?, offered, OFFER)?;
        let minor = client.minor;
        ensure!(
            minor <= offered,
            "minor {offered} was offered, {minor} answered"
        );
    }
    Ok(())
}

fn version_of_a_later_minor_is_answered(target: &Target) -> Verdict {
    for offered in [7, 1000, u16::MAX] {
        let mut client = Client::negotiate(target.connect()?, offered, OFFER)?;
        let minor = client.minor;
        ensure!(
            minor <= offered,
            "minor {offered} was offered, {minor} answered"
        );
        client.is_in_step()?;
    }
    Ok(())
}

fn version_reply_ends_with_a_nul(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let message = connection.accepts(Command::Version as u16, &version(0, 0, &text), &[])?;
    let text = message.payload.get(4..).unwrap_or_default();
    let nuls = text.iter().filter(|byte| **byte == 0).count();
    ensure!(
        text.is_empty() || (nuls == 1 && text.ends_with(&[0])),
        "there are {nuls} NULs in the JSON"
    );
    Ok(())
}

fn version_reply_is_an_object(target: &Target) -> Verdict {
    let client = target.client()?;
    let is_one = |value: &Value| value.is_object() || value.is_null();
    ensure!(is_one(&client.document), "the JSON is {}", client.document);
    let capabilities = client.document.get("capabilities");
    ensure!(
        capabilities.is_none_or(Value::is_object),
        "the JSON is {}",
        client.document
    );
    Ok(())
}

/// The capabilities that are answered to those in `offer`.
fn keys_answered(target: &Target, offer: &str) -> Result<Vec<String>, Unmet> {
    let client = target.client_offering(offer)?;
    let keys = client
        .capabilities()
        .as_object()
        .map(|object| object.keys());
    Ok(keys.into_iter().flatten().cloned().collect())
}

fn version_reply_names_only_what_was_offered(target: &Target) -> Verdict {
    for (key, value) in [
        ("max_msg_fds", "8"),
        ("max_data_xfer_size", "65536"),
        ("max_dma_maps", "100"),
        ("pgsizes", "4096"),
        ("write_multiple", "true"),
        ("twin_socket", r#"{"supported":true}"#),
    ] {
        let offer = format!(r#"{{"capabilities":{{"{key}":{value}}}}}"#);
        let mut keys = keys_answered(target, &offer).within(key)?;
        keys.retain(|answered| answered != key);
        let keys = keys.join(", ");
        ensure!(keys.is_empty(), "{key} was offered, and answered: {keys}");
    }
    Ok(())
}

fn version_reply_to_no_capabilities_names_none(target: &Target) -> Verdict {
    for offer in ["{}", r#"{"capabilities":{}}"#] {
        let keys = keys_answered(target, offer).within(offer)?.join(", ");
        ensure!(keys.is_empty(), "{offer} was offered, and answered: {keys}");
    }
    Ok(())
}

fn version_reply_has_the_types_of_the_table(target: &Target) -> Verdict {
    let client = target.client()?;
    let capabilities = client.capabilities();
    for (key, is_right) in [
        ("max_msg_fds", Value::is_u64 as fn(&Value) -> bool),
        ("max_data_xfer_size", Value::is_u64),
        ("max_dma_maps", Value::is_u64),
        ("pgsizes", Value::is_u64),
        ("write_multiple", Value::is_boolean),
        ("twin_socket", Value::is_object),
    ] {
        if let Some(value) = capabilities.get(key) {
            ensure!(is_right(value), "{key} is {value}");
        }
    }
    Ok(())
}

fn version_reply_has_numbers_that_are_possible(target: &Target) -> Verdict {
    let client = target.client()?;
    for key in [
        "max_msg_fds",
        "max_data_xfer_size",
        "max_dma_maps",
        "pgsizes",
    ] {
        if let Some(value) = client.capabilities().get(key) {
            ensure!(value.as_u64().is_some_and(|n| n > 0), "{key} is {value}");
        }
    }
    Ok(())
}

/// Sends one message to a server that must neither do what it says nor agree on a version.
fn not_served(target: &Target, flags: u32, command: u16, payload: &[u8]) -> Verdict {
    let mut connection = target.connect()?;
    let id = connection.take_id();
    let message = payload::message(id, command, flags, payload);
    if connection.send_while_taken(&message, &[])?
        && let Answer::Success(_) = connection.answer_to(id, command)?
    {
        return Err(Unmet::fail(format!("command {command} succeeded")));
    }
    drop(connection);
    target.client().within("the next client").map(drop)
}

fn version_comes_first(target: &Target) -> Verdict {
    let access = payload::access(7, 0, 4, &[]);
    not_served(target, 0, 4, &words(&[16, 0, 0, 0])).within("DEVICE_GET_INFO")?;
    not_served(target, 0, 9, &access).within("REGION_READ")?;
    not_served(target, 0, 13, &[]).within("DEVICE_RESET")
}

fn a_reply_before_version_is_not_served(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let message = payload::message(1, 1, 1, &version(0, 0, &text));
    connection.send(&message, &[])?;
    // It may be dropped, refused, or end the connection.
    if let Some(received) = connection.receive_within(std::time::Duration::from_millis(300))?
        && let crate::connection::Received::Message(message) = received
    {
        let is_error = message.header.flags & payload::ERROR != 0;
        ensure!(is_error, "a reply of type VERSION was answered");
    }
    drop(connection);
    target.client().within("the next client").map(drop)
}

fn version_comes_once(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let again = version(0, 0, &text);
    match client.connection.ask(1, &again, &[])? {
        Answer::Success(_) => Err(Unmet::fail("VERSION was answered a second time")),
        Answer::Refused(_) | Answer::Closed => Ok(()),
    }
}

fn version_of_another_major_is_not_agreed_on(target: &Target) -> Verdict {
    let text = [OFFER.as_bytes(), b"\0"].concat();
    for major in [1, 0x100, u16::MAX] {
        not_served(target, 0, 1, &version(major, 0, &text)).within(&format!("major {major}"))?;
    }
    Ok(())
}

fn commands_right_behind_version_are_served(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let mut bytes = payload::message(1, 1, 0, &version(0, 0, &text));
    for id in 2..5 {
        bytes.extend(payload::message(id, 4, 0, &words(&[16, 0, 0, 0])));
    }
    connection.send(&bytes, &[])?;
    for (id, command) in [(1, 1), (2, 4), (3, 4), (4, 4)] {
        let place = format!("message {id}");
        connection
            .answer_to(id, command)?
            .success()
            .within(&place)?;
    }
    Ok(())
}
