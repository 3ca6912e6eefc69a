//! What a viewer says (RFC 6143, 7.5).

use super::format::{self, PixelFormat};
use super::{Malformed, Rect};

/// Most bytes of a message. A viewer could else choose our buffer. The longest that make sense are a
/// list of 255 screens and one of some dozen encodings.
pub const MAX_LEN: usize = 8 << 10;

/// Most bytes of a text that is skipped.
const MAX_TEXT: u32 = 1 << 20;

/// What a viewer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Which pixels it wants.
    Format(PixelFormat),
    /// What it can decode.
    Encodings(Encodings),
    /// That it wants to be shown something.
    Request {
        /// It has the rest, and wants only what is new.
        is_incremental: bool,
        /// Which part.
        area: Rect,
    },
    /// A key was pressed or let go.
    Key {
        /// Which of the two.
        is_down: bool,
        /// X11's number of what is on it.
        symbol: u32,
        /// The number of the key itself, as XT keyboards have it. Only some viewers know.
        code: Option<u32>,
    },
    /// The pointer was moved, or a button pressed or let go.
    Pointer {
        /// Those that are down, the left one in the lowest bit.
        buttons: u8,
        /// Where, from the left.
        x: u16,
        /// Where, from above.
        y: u16,
    },
    /// The viewer's clipboard, of as many bytes: they follow.
    Text(u32),
    /// How large it wants the picture to be.
    Resize {
        /// Pixels across.
        width: u16,
        /// Lines.
        height: u16,
    },
}

/// How the pixels of a rectangle are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// As they are.
    #[default]
    Raw,
    /// Compressed.
    Zrle,
}

/// How a viewer is shown the cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pointing {
    /// Drawn into the picture.
    #[default]
    Drawn,
    /// As a shape, each of whose pixels is there or not.
    Shape,
    /// As a shape with alpha.
    Alpha,
}

/// What a viewer can decode, of what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// What it likes best.
    pub body: Body,
    /// That the picture has another size.
    pub desktop_size: bool,
    /// The same, with screens; and it may ask for a size.
    pub extended_desktop_size: bool,
    /// It knows the numbers of keys.
    pub key_codes: bool,
    /// How it is shown the cursor.
    pub pointing: Pointing,
}

/// `Raw`, and what follows: numbers of encodings.
pub const RAW: i32 = 0;
/// Compressed tiles.
pub const ZRLE: i32 = 16;
/// The size, in the guise of a rectangle.
pub const DESKTOP_SIZE: i32 = -223;
/// The size and the screens, in the same guise.
pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// How the cursor looks, in the guise of a rectangle.
pub const CURSOR: i32 = -239;
/// The same with alpha.
pub const CURSOR_WITH_ALPHA: i32 = -314;
/// That keys may come with their numbers.
pub const QEMU_KEYS: i32 = -258;

impl Encodings {
    /// Of a list, the most wanted first.
    fn from_list(list: impl Iterator<Item = i32>) -> Self {
        let mut known = Self::default();
        let mut body = None;
        for number in list {
            match number {
                RAW => _ = body.get_or_insert(Body::Raw),
                ZRLE => _ = body.get_or_insert(Body::Zrle),
                DESKTOP_SIZE => known.desktop_size = true,
                EXTENDED_DESKTOP_SIZE => known.extended_desktop_size = true,
                QEMU_KEYS => known.key_codes = true,
                CURSOR if known.pointing == Pointing::Drawn => known.pointing = Pointing::Shape,
                CURSOR_WITH_ALPHA => known.pointing = Pointing::Alpha,
                _ => {}
            }
        }
        known.body = body.unwrap_or_default();
        known
    }
}

/// The first message in `bytes`, and how many of them it is; `None` if it is not whole yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>, Malformed> {
    let mut reader = Reader { bytes, taken: 0 };
    match reader.message() {
        Ok(message) => Ok(Some((message, reader.taken))),
        Err(Stop::Short) if bytes.len() >= MAX_LEN => Err(Malformed::TooLong),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Malformed(why)) => Err(why),
    }
}

/// Why a message ends early.
enum Stop {
    Short,
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Stop::Short)?;
        self.bytes = rest;
        self.taken += N;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Stop> {
        self.take().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Result<u32, Stop> {
        self.take().map(u32::from_be_bytes)
    }

    fn message(&mut self) -> Result<Message, Stop> {
        match self.byte()? {
            0 => self.format(),
            2 => self.encodings(),
            3 => self.request(),
            4 => self.key(),
            5 => self.pointer(),
            6 => self.text(),
            251 => self.resize(),
            255 => self.qemu(),
            kind => Err(Malformed::Kind(kind).into()),
        }
    }

    fn format(&mut self) -> Result<Message, Stop> {
        let [_, _, _] = self.take()?;
        let bytes = self.take::<{ format::LEN }>()?;
        Ok(Message::Format(PixelFormat::parse(&bytes)?))
    }

    fn encodings(&mut self) -> Result<Message, Stop> {
        let _ = self.byte()?;
        let count = usize::from(self.short()?);
        if count > (MAX_LEN - self.taken) / 4 {
            return Err(Malformed::TooLong.into());
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(self.take().map(i32::from_be_bytes)?);
        }
        Ok(Message::Encodings(Encodings::from_list(list.into_iter())))
    }

    fn request(&mut self) -> Result<Message, Stop> {
        let is_incremental = self.byte()? != 0;
        let area = Rect {
            x: self.short()?,
            y: self.short()?,
            width: self.short()?,
            height: self.short()?,
        };
        Ok(Message::Request {
            is_incremental,
            area,
        })
    }

    fn key(&mut self) -> Result<Message, Stop> {
        let [is_down, _, _] = self.take()?;
        Ok(Message::Key {
            is_down: is_down != 0,
            symbol: self.long()?,
            code: None,
        })
    }

    fn pointer(&mut self) -> Result<Message, Stop> {
        Ok(Message::Pointer {
            buttons: self.byte()?,
            x: self.short()?,
            y: self.short()?,
        })
    }

    fn text(&mut self) -> Result<Message, Stop> {
        let [_, _, _] = self.take()?;
        match self.long()? {
            length @ ..=MAX_TEXT => Ok(Message::Text(length)),
            _ => Err(Malformed::TooLong.into()),
        }
    }

    /// `SetDesktopSize`: the size, and screens whose places are ours to choose.
    fn resize(&mut self) -> Result<Message, Stop> {
        let _ = self.byte()?;
        let (width, height) = (self.short()?, self.short()?);
        let [screens, _] = self.take()?;
        for _ in 0..screens {
            let _: [u8; 16] = self.take()?;
        }
        Ok(Message::Resize { width, height })
    }

    /// QEMU's extended key, the only one of its messages that is offered.
    fn qemu(&mut self) -> Result<Message, Stop> {
        if self.byte()? != 0 {
            return Err(Malformed::Kind(255).into());
        }
        Ok(Message::Key {
            is_down: self.short()? != 0,
            symbol: self.long()?,
            code: Some(self.long()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encodings(list: &[i32]) -> Vec<u8> {
        let mut bytes = vec![2, 0];
        bytes.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        bytes.extend(list.iter().flat_map(|number| number.to_be_bytes()));
        bytes
    }

    /// What is shown: which pixels, which encodings, which part.
    fn samples_of_pictures() -> Vec<(Vec<u8>, Message)> {
        let mut format = vec![0, 0, 0, 0];
        format.extend(PixelFormat::OFFERED.emit());
        let known = Encodings {
            body: Body::Zrle,
            desktop_size: true,
            extended_desktop_size: true,
            key_codes: true,
            pointing: Pointing::Alpha,
        };
        let list = encodings(&[7, 16, 0, -223, -308, -258, -314, -239, -1]);
        let nothing = Encodings::default();
        let request = Message::Request {
            is_incremental: true,
            area: Rect {
                x: 1,
                y: 2,
                width: 0x0304,
                height: 5,
            },
        };
        let (width, height) = (1024, 768);
        let mut resize = vec![251, 0, 4, 0, 3, 0, 2, 0];
        resize.extend([9; 32]);
        vec![
            (format, Message::Format(PixelFormat::OFFERED)),
            (list, Message::Encodings(known)),
            (encodings(&[]), Message::Encodings(nothing)),
            (vec![3, 1, 0, 1, 0, 2, 3, 4, 0, 5], request),
            (resize, Message::Resize { width, height }),
        ]
    }

    /// What is done: keys, the pointer, the clipboard.
    fn samples_of_deeds() -> Vec<(Vec<u8>, Message)> {
        let key = |symbol, code| Message::Key {
            is_down: true,
            symbol,
            code,
        };
        let pointer = Message::Pointer {
            buttons: 3,
            x: 9,
            y: 256,
        };
        let coded = vec![255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e];
        vec![
            (vec![4, 1, 0, 0, 0, 0, 0xff, 0x0d], key(0xff0d, None)),
            (coded, key(0x61, Some(0x1e))),
            (vec![5, 3, 0, 9, 1, 0], pointer),
            (vec![6, 0, 0, 0, 0, 16, 0, 0], Message::Text(1 << 20)),
        ]
    }

    fn samples() -> Vec<(Vec<u8>, Message)> {
        [samples_of_pictures(), samples_of_deeds()].concat()
    }

    #[test]
    fn each_message_is_read_when_it_is_whole_and_not_before() {
        for (bytes, message) in samples() {
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), Ok(None), "{message:?}, {length}");
            }
            let mut longer = bytes.clone();
            longer.extend([1, 2, 3]);
            assert_eq!(parse(&longer), Ok(Some((message, bytes.len()))));
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused_by_its_head() {
        for (bytes, why) in [
            (vec![2, 0, 0xff, 0xff], Malformed::TooLong),
            (vec![2, 0, 0x08, 0x00], Malformed::TooLong),
            (vec![6, 0, 0, 0, 0, 16, 0, 1], Malformed::TooLong),
            // Extended clipboards have a negative length.
            (vec![6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc], Malformed::TooLong),
            (vec![1], Malformed::Kind(1)),
            (vec![150], Malformed::Kind(150)),
            (vec![255, 1], Malformed::Kind(255)),
        ] {
            assert_eq!(parse(&bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn the_first_encoding_that_is_known_wins() {
        for (list, body) in [
            (vec![16, 0], Body::Zrle),
            (vec![0, 16], Body::Raw),
            (vec![5, 7, 16], Body::Zrle),
            (vec![5], Body::Raw),
        ] {
            let message = parse(&encodings(&list)).unwrap().unwrap().0;
            assert!(matches!(message, Message::Encodings(known) if known.body == body));
        }
    }

    proptest! {
        /// Whatever comes, it is read in steps that go forward and never past the end, or refused;
        /// and what does not suffice for a message is no longer than the longest.
        #[test]
        fn any_bytes_are_messages_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..10_000)) {
            let mut rest = bytes.as_slice();
            while let Ok(Some((_, length))) = parse(rest) {
                prop_assert!(length > 0 && length <= rest.len() && length <= MAX_LEN);
                rest = &rest[length..];
            }
            if parse(rest) == Ok(None) {
                prop_assert!(rest.len() < MAX_LEN);
            }
        }

        /// In whatever pieces they come.
        #[test]
        fn messages_follow_each_other(order in prop::collection::vec(0_usize..9, 0..20)) {
            let samples = samples();
            let bytes: Vec<u8> = order.iter().flat_map(|&at| samples[at].0.clone()).collect();
            let mut rest = bytes.as_slice();
            for at in order {
                let (message, length) = parse(rest).unwrap().unwrap();
                prop_assert_eq!(message, samples[at].1);
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
