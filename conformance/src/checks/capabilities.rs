//! VERSION: what cannot be agreed on, and the twin socket.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::socket_type;
use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::feature::twin_client;
use crate::negotiated::Client;
use crate::payload::version;
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "VFIO_USER_VERSION, Request" {
        version_without_both_numbers_is_refused:
            "A VERSION shorter than its two numbers proposes nothing.";
        version_json_without_a_nul_is_refused:
            "The JSON ends with a NUL, which its length includes.";
        version_json_that_is_none_is_refused:
            "The text after the numbers is JSON.";
        version_json_that_is_cut_is_refused:
            "JSON that ends too early is none.";
        version_json_that_is_not_utf8_is_refused:
            "The JSON is encoded in UTF-8.";
        version_json_that_is_no_object_is_refused:
            "The JSON is an object.";
        version_capabilities_that_are_no_object_are_refused:
            "The capabilities are an object.";
        version_max_msg_fds_that_is_no_number_is_refused:
            "max_msg_fds is a number.";
        version_max_msg_fds_that_is_negative_is_refused:
            "max_msg_fds is a number of descriptors, so it is not negative.";
        version_max_data_xfer_size_that_is_no_number_is_refused:
            "max_data_xfer_size is a number.";
        version_max_data_xfer_size_that_is_negative_is_refused:
            "max_data_xfer_size is a number of bytes, so it is not negative.";
        version_write_multiple_that_is_no_boolean_is_not_agreed_on:
            "write_multiple is a boolean, and anything else does not ask for it.";
        version_refused_once_leaves_the_next_client_alone:
            "Each connection agrees on a version by itself.";
    }
    "Security Considerations" {
        version_numbers_beyond_all_types_do_no_harm:
            "A number that fits no integer is refused or bounded, and does no harm.";
        version_json_that_is_deep_does_no_harm:
            "JSON that is nested thousands of times is refused, and does no harm.";
        version_json_that_is_long_does_no_harm:
            "JSON of a megabyte is refused or skipped, and does no harm.";
    }
    "VFIO_USER_VERSION, Reply" {
        twin_socket_reply_is_consistent:
            "A twin socket is supported and there at fd_index, or not supported and not there.";
        twin_socket_that_was_not_offered_is_not_there:
            "The server opens a twin socket only for a client that says that it supports it.";
        twin_socket_that_is_not_supported_is_not_there:
            "Where the client says that it does not support a twin socket there is none.";
        twin_socket_without_supported_is_not_there:
            "The member supported defaults to false.";
        twin_socket_is_a_socket, needs TwinSocket:
            "The descriptor at fd_index is a stream socket, connected to the server.";
        twin_socket_comes_alone, needs TwinSocket:
            "No descriptor comes with the reply that fd_index does not name.";
    }
    "Socket" {
        twin_socket_leaves_replies_where_they_are, needs TwinSocket:
            "Replies to the client's commands come on the main socket, twin socket or not.";
    }
}

/// Offers what cannot be agreed on: an error reply or the end, and the next client is served.
fn not_agreed_on(target: &Target, payload: &[u8]) -> Verdict {
    let mut connection = target.connect()?;
    if let Answer::Success(_) = connection.ask(Command::Version as u16, payload, &[])? {
        return Err(Unmet::fail("it was agreed on"));
    }
    drop(connection);
    let mut next = target.client().within("the next client")?;
    next.is_in_step().within("the next client")
}

fn none_is_agreed_on(target: &Target, texts: &[&str]) -> Verdict {
    for text in texts {
        let terminated = [text.as_bytes(), b"\0"].concat();
        not_agreed_on(target, &version(0, 0, &terminated)).within(text)?;
    }
    Ok(())
}

fn version_without_both_numbers_is_refused(target: &Target) -> Verdict {
    for len in 0..4 {
        not_agreed_on(target, &[0; 3][..len]).within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn version_json_without_a_nul_is_refused(target: &Target) -> Verdict {
    not_agreed_on(target, &version(0, 0, b"{}"))?;
    not_agreed_on(target, &version(0, 0, br#"{"capabilities":{}}"#))
}

fn version_json_that_is_none_is_refused(target: &Target) -> Verdict {
    none_is_agreed_on(target, &["hello", "{capabilities:{}}", "{}{}"])
}

fn version_json_that_is_cut_is_refused(target: &Target) -> Verdict {
    let cut = [
        "{",
        r#"{"capabilities":"#,
        r#"{"capabilities":{"max_msg_fds":1}"#,
    ];
    none_is_agreed_on(target, &cut)
}

fn version_json_that_is_not_utf8_is_refused(target: &Target) -> Verdict {
    not_agreed_on(target, &version(0, 0, b"{\"\xff\xfe\":1}\0"))
}

fn version_json_that_is_no_object_is_refused(target: &Target) -> Verdict {
    none_is_agreed_on(target, &["[]", "3", "\"capabilities\""])
}

fn version_capabilities_that_are_no_object_are_refused(target: &Target) -> Verdict {
    let bad = [
        r#"{"capabilities":3}"#,
        r#"{"capabilities":"none"}"#,
        r#"{"capabilities":[1]}"#,
    ];
    none_is_agreed_on(target, &bad)
}

fn version_max_msg_fds_that_is_no_number_is_refused(target: &Target) -> Verdict {
    let bad = [
        r#"{"capabilities":{"max_msg_fds":"8"}}"#,
        r#"{"capabilities":{"max_msg_fds":{}}}"#,
    ];
    none_is_agreed_on(target, &bad)
}

fn version_max_msg_fds_that_is_negative_is_refused(target: &Target) -> Verdict {
    none_is_agreed_on(target, &[r#"{"capabilities":{"max_msg_fds":-1}}"#])
}

fn version_max_data_xfer_size_that_is_no_number_is_refused(target: &Target) -> Verdict {
    none_is_agreed_on(
        target,
        &[r#"{"capabilities":{"max_data_xfer_size":"big"}}"#],
    )
}

fn version_max_data_xfer_size_that_is_negative_is_refused(target: &Target) -> Verdict {
    none_is_agreed_on(
        target,
        &[r#"{"capabilities":{"max_data_xfer_size":-4096}}"#],
    )
}

fn version_write_multiple_that_is_no_boolean_is_not_agreed_on(target: &Target) -> Verdict {
    for value in ["1", "\"true\"", "{}"] {
        let offer = format!("{{\"capabilities\":{{\"write_multiple\":{value}}}}}\0");
        let payload = version(0, 0, offer.as_bytes());
        let mut connection = target.connect()?;
        if let Answer::Success(message) = connection.ask(1, &payload, &[])? {
            let client = Client::agreed(connection, message)?;
            let granted = &client.capabilities()["write_multiple"];
            ensure!(*granted != true, "{value} is taken for true");
        }
    }
    Ok(())
}

fn version_refused_once_leaves_the_next_client_alone(target: &Target) -> Verdict {
    for _ in 0..5 {
        not_agreed_on(target, &version(0, 0, b"{\0"))?;
    }
    Ok(())
}

/// Offers something odd, of which anything may come but harm.
fn does_no_harm(target: &Target, text: &str) -> Verdict {
    let terminated = [text.as_bytes(), b"\0"].concat();
    let mut connection = target.connect()?;
    connection.ask(1, &version(0, 0, &terminated), &[])?;
    drop(connection);
    let mut next = target.client().within("the next client")?;
    next.is_in_step().within("the next client")
}

fn version_numbers_beyond_all_types_do_no_harm(target: &Target) -> Verdict {
    for number in [
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
    ] {
        for key in [
            "max_msg_fds",
            "max_data_xfer_size",
            "max_dma_maps",
            "pgsizes",
        ] {
            let text = format!(r#"{{"capabilities":{{"{key}":{number}}}}}"#);
            does_no_harm(target, &text).within(&text)?;
        }
    }
    Ok(())
}

fn version_json_that_is_deep_does_no_harm(target: &Target) -> Verdict {
    does_no_harm(target, &"[".repeat(100_000))?;
    does_no_harm(target, &(r#"{"x":"#.repeat(1500) + "1" + &"}".repeat(1500)))
}

fn version_json_that_is_long_does_no_harm(target: &Target) -> Verdict {
    does_no_harm(target, &format!(r#"{{"x":"{}"}}"#, "y".repeat(1 << 20)))
}

fn twin_socket_reply_is_consistent(target: &Target) -> Verdict {
    let client = twin_client(target)?;
    let twin = &client.capabilities()["twin_socket"];
    let came = client.fds.len();
    if twin["supported"] != true {
        ensure!(
            came == 0,
            "it is not supported, and {came} descriptors came"
        );
        return Ok(());
    }
    let index = twin["fd_index"].as_u64();
    let index = index.and_then(|index| usize::try_from(index).ok());
    ensure!(
        index.is_some_and(|index| index < came),
        "{came} descriptors came with {twin}"
    );
    Ok(())
}

fn no_twin(target: &Target, offer: &str) -> Verdict {
    let mut client = target.client_offering(offer)?;
    let twin = &client.capabilities()["twin_socket"];
    ensure!(twin["supported"] != true, "twin_socket is {twin}");
    let came = client.fds.len();
    ensure!(came == 0, "{came} descriptors came");
    client.is_in_step()
}

fn twin_socket_that_was_not_offered_is_not_there(target: &Target) -> Verdict {
    no_twin(target, r#"{"capabilities":{"max_msg_fds":16}}"#)
}

fn twin_socket_that_is_not_supported_is_not_there(target: &Target) -> Verdict {
    no_twin(
        target,
        r#"{"capabilities":{"twin_socket":{"supported":false}}}"#,
    )
}

fn twin_socket_without_supported_is_not_there(target: &Target) -> Verdict {
    no_twin(target, r#"{"capabilities":{"twin_socket":{}}}"#)
}

fn twin_socket_is_a_socket(target: &Target) -> Verdict {
    let client = twin_client(target)?;
    let index = client.capabilities()["twin_socket"]["fd_index"].as_u64();
    let twin = index
        .and_then(|index| client.fds.get(usize::try_from(index).ok()?))
        .ok_or_else(|| Unmet::fail("there is nothing at fd_index"))?;
    let kind = socket_type(twin.as_fd()).map_err(|_| Unmet::fail("it is no socket"))?;
    let stream = rustix::net::SocketType::STREAM;
    ensure!(kind == stream, "it is a socket of type {kind:?}");
    let peer = rustix::net::getpeername(twin);
    ensure!(peer.is_ok(), "it is not connected");
    Ok(())
}

fn twin_socket_comes_alone(target: &Target) -> Verdict {
    let came = twin_client(target)?.fds.len();
    ensure!(came == 1, "{came} descriptors came");
    Ok(())
}

fn twin_socket_leaves_replies_where_they_are(target: &Target) -> Verdict {
    let mut client = twin_client(target)?;
    client.is_in_step()?;
    let deadline = std::time::Instant::now() + Duration::from_millis(100);
    for twin in &client.fds {
        let something = rustix::event::PollFlags::IN;
        let is_readable = crate::connection::wait(twin.as_fd(), something, deadline)?;
        ensure!(!is_readable, "something came on the twin socket");
    }
    Ok(())
}
