//! Which key a viewer means, as Linux numbers keys (`linux/input-event-codes.h`).
//!
//! A viewer that knows the keys themselves numbers them as XT keyboards do. Others name what is on a
//! key: that is looked for on a keyboard of the United States. Whether Shift is held is another key's
//! matter, which the viewer tells by itself.

/// Keys whose XT number is preceded by 0xe0, each with Linux's.
const EXTENDED: [(u8, u16); 46] = [
    (0x10, 165), // the previous song
    (0x19, 163), // the next
    (0x1c, 96),  // Enter of the keypad
    (0x1d, 97),  // right Ctrl
    (0x20, 113), // mute
    (0x21, 140), // calculator
    (0x22, 164), // play
    (0x24, 166), // stop
    (0x2e, 114), // volume down
    (0x30, 115), // and up
    (0x32, 172), // home page
    (0x35, 98),  // / of the keypad
    (0x37, 99),  // Print
    (0x38, 100), // right Alt
    (0x46, 119), // Pause
    (0x47, 102), // Home
    (0x48, 103), // up
    (0x49, 104), // page up
    (0x4b, 105), // left
    (0x4d, 106), // right
    (0x4f, 107), // End
    (0x50, 108), // down
    (0x51, 109), // page down
    (0x52, 110), // Insert
    (0x53, 111), // Delete
    (0x5b, 125), // left Meta
    (0x5c, 126), // right Meta
    (0x5d, 127), // menu
    (0x5e, 116), // power
    (0x5f, 142), // sleep
    (0x63, 143), // wake up
    (0x65, 217), // search
    (0x66, 156), // bookmarks
    (0x67, 173), // reload
    (0x68, 128), // stop
    (0x69, 159), // forward
    (0x6a, 158), // back
    (0x6b, 157), // computer
    (0x6c, 155), // mail
    (0x6d, 226), // media
    (0x05, 129), // again
    (0x07, 131), // undo
    (0x0c, 133), // copy
    (0x18, 135), // paste
    (0x44, 136), // find
    (0x75, 138), // help
];

/// Keys that have another number than with XT, without 0xe0.
const ODD: [(u8, u16); 23] = [
    (0x54, 99),  // Print with Alt
    (0x56, 86),  // between left Shift and Z
    (0x57, 87),  // F11
    (0x58, 88),  // F12
    (0x59, 117), // = of the keypad
    (0x64, 183), // F13
    (0x65, 184),
    (0x66, 185),
    (0x67, 186),
    (0x68, 187),
    (0x69, 188),
    (0x6a, 189),
    (0x6b, 190),
    (0x6c, 191),
    (0x6d, 192),
    (0x6e, 193),
    (0x76, 194), // F24
    (0x70, 93),  // katakana or hiragana
    (0x73, 89),  // ro
    (0x79, 92),  // henkan
    (0x7b, 94),  // muhenkan
    (0x7d, 124), // yen
    (0x7e, 121), // , of the keypad
];

/// Up to here both number them alike.
const ALIKE: u32 = 0x53;

/// Characters on keys: the first key's number, and what is on it and those that follow, without and
/// with Shift.
const CHARACTERS: [(u16, &str, &str); 5] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", ""),
];

/// X11's numbers of what is no character, each with Linux's of the key.
const SYMBOLS: [(u32, u16); 58] = [
    (0xff08, 14),  // BackSpace
    (0xff09, 15),  // Tab
    (0xfe20, 15),  // with Shift
    (0xff0d, 28),  // Return
    (0xff13, 119), // Pause
    (0xff14, 70),  // Scroll Lock
    (0xff15, 99),  // Print with Alt
    (0xff1b, 1),   // Escape
    (0xff50, 102), // Home
    (0xff51, 105), // Left
    (0xff52, 103), // Up
    (0xff53, 106), // Right
    (0xff54, 108), // Down
    (0xff55, 104), // Page Up
    (0xff56, 109), // Page Down
    (0xff57, 107), // End
    (0xff61, 99),  // Print
    (0xff63, 110), // Insert
    (0xff67, 127), // Menu
    (0xff6a, 138), // Help
    (0xff6b, 119), // Break
    (0xff7e, 100), // Mode Switch
    (0xff7f, 69),  // Num Lock
    (0xff8d, 96),  // of the keypad from here: Enter
    (0xff95, 71),
    (0xff96, 75),
    (0xff97, 72),
    (0xff98, 77),
    (0xff99, 80),
    (0xff9a, 73),
    (0xff9b, 81),
    (0xff9c, 79),
    (0xff9d, 76),
    (0xff9e, 82),
    (0xff9f, 83),
    (0xffaa, 55),       // *
    (0xffab, 78),       // +
    (0xffac, 121),      // ,
    (0xffad, 74),       // -
    (0xffae, 83),       // .
    (0xffaf, 98),       // /
    (0xffbd, 117),      // =, to here
    (0xffe1, 42),       // left Shift
    (0xffe2, 54),       // right Shift
    (0xffe3, 29),       // left Control
    (0xffe4, 97),       // right Control
    (0xffe5, 58),       // Caps Lock
    (0xffe7, 125),      // left Meta
    (0xffe8, 126),      // right Meta
    (0xffe9, 56),       // left Alt
    (0xffea, 100),      // right Alt
    (0xffeb, 125),      // left Super
    (0xffec, 126),      // right Super
    (0xfe03, 100),      // AltGr
    (0xffff, 111),      // Delete
    (0x1008_ff11, 114), // volume down
    (0x1008_ff12, 113), // mute
    (0x1008_ff13, 115), // volume up
];

/// The digits of the keypad, from 0.
const KEYPAD: [u16; 10] = [82, 79, 80, 81, 75, 76, 77, 71, 72, 73];

/// The key that a viewer means: by its number, if that is known, or else by what is on it.
pub(crate) fn find(symbol: u32, code: Option<u32>) -> Option<u16> {
    code.and_then(by_code).or_else(|| by_symbol(symbol))
}

fn by_code(code: u32) -> Option<u16> {
    let look = |table: &[(u8, u16)], wanted: u32| {
        let mut table = table.iter();
        let found = table.find(|(number, _)| u32::from(*number) == wanted);
        found.map(|(_, key)| *key)
    };
    match code {
        1..=ALIKE => u16::try_from(code).ok(),
        ..0x80 => look(&ODD, code),
        // What 0xe0 precedes has the highest bit of a byte set, as viewers send it.
        0x80..0x100 => look(&EXTENDED, code & 0x7f),
        0xe000..0xe080 => look(&EXTENDED, code & 0x7f),
        _ => None,
    }
}

fn by_symbol(symbol: u32) -> Option<u16> {
    match symbol {
        0x20..0x100 => by_character(char::from_u32(symbol)?),
        0xffb0..=0xffb9 => KEYPAD.get((symbol - 0xffb0) as usize).copied(),
        // F1 to F10, F11 and F12, F13 to F24.
        0xffbe..=0xffc7 => Some(59 + (symbol - 0xffbe) as u16),
        0xffc8..=0xffc9 => Some(87 + (symbol - 0xffc8) as u16),
        0xffca..=0xffd5 => Some(183 + (symbol - 0xffca) as u16),
        _ => {
            let mut symbols = SYMBOLS.iter();
            let found = symbols.find(|(known, _)| *known == symbol);
            found.map(|(_, key)| *key)
        }
    }
}

fn by_character(wanted: char) -> Option<u16> {
    CHARACTERS.iter().find_map(|(first, plain, shifted)| {
        let place = |text: &str| text.chars().position(|character| character == wanted);
        let at = place(plain).or_else(|| place(shifted))?;
        Some(first + at as u16)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_found_by_their_number_first() {
        for (code, key) in [
            (0x01, 1),   // Escape
            (0x1e, 30),  // A
            (0x3a, 58),  // Caps Lock
            (0x45, 69),  // Num Lock
            (0x53, 83),  // . of the keypad
            (0x57, 87),  // F11
            (0x9d, 97),  // right Ctrl
            (0xc8, 103), // up
            (0xe048, 103),
            (0xc6, 119), // Pause
            (0xdb, 125), // left Meta
        ] {
            assert_eq!(find(0x61, Some(code)), Some(key), "{code:#x}");
        }
        // One that nobody knows is looked for by what is on it.
        for code in [0, 0x55, 0x7f, 0x80, 0xff, 0x100, 0xe000, 0xe080, u32::MAX] {
            assert_eq!(find(0x61, Some(code)), Some(30), "{code:#x}");
        }
        assert_eq!(find(0, Some(0)), None);
    }

    #[test]
    fn keys_are_found_by_what_is_on_them_with_shift_and_without() {
        for (symbols, key) in [
            ("1!", 2),
            ("0)", 11),
            ("-_", 12),
            ("=+", 13),
            ("qQ", 16),
            ("[{", 26),
            ("]}", 27),
            ("aA", 30),
            (";:", 39),
            ("'\"", 40),
            ("`~", 41),
            ("\\|", 43),
            ("zZ", 44),
            ("/?", 53),
            (",<", 51),
            (".>", 52),
            (" ", 57),
        ] {
            for symbol in symbols.chars() {
                assert_eq!(find(symbol.into(), None), Some(key), "{symbol}");
            }
        }
        for (symbol, key) in [
            (0xff0d, 28),
            (0xffbe, 59),
            (0xffc7, 68),
            (0xffc8, 87),
            (0xffc9, 88),
            (0xffd5, 194),
            (0xffb0, 82),
            (0xffb9, 73),
            (0xffe1, 42),
            (0xffff, 111),
        ] {
            assert_eq!(find(symbol, None), Some(key), "{symbol:#x}");
        }
        // Not on such a keyboard.
        for symbol in [0xe4, 0x20ac, 0x0100_20ac, u32::MAX] {
            assert_eq!(find(symbol, None), None, "{symbol:#x}");
        }
    }

    /// Every key that a keyboard of today has is reached in both ways, and no key that none has.
    #[test]
    fn every_key_of_a_keyboard_of_today_is_found() {
        let by_codes: BTreeSet<_> = (0..=0xffff).filter_map(by_code).collect();
        let symbols = (0..=0xffff).chain(0x1008_ff00..=0x1008_ffff);
        let by_symbols: BTreeSet<_> = symbols.filter_map(by_symbol).collect();
        for key in (1..=83).chain(87..=88).chain(96..=100).chain(102..=111) {
            assert!(by_codes.contains(&key), "{key} by its number");
            assert!(by_symbols.contains(&key), "{key} by what is on it");
        }
        // The one more that keyboards of Europe have shares what is on it with others.
        assert!(by_codes.contains(&86));
        assert!(
            by_codes
                .union(&by_symbols)
                .all(|key| (1..=248).contains(key))
        );
    }
}
