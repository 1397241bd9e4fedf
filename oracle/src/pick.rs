//! Choices that depend on the number of a mutant alone.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Pick(u64);

impl Pick {
    /// The choices of mutant `number`.
    pub fn of(number: usize) -> Self {
        Self((number as u64).wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// One of `all`.
    pub fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.bits() as u8;
        }
    }
}

/// Ways to change one field that stands in `bytes[at..at + len]`.
pub const WAYS: usize = 8;

/// Changes the field in way number `way`; `other` is the field as it stands in other evidence.
pub fn change(pick: &mut Pick, way: usize, bytes: &mut [u8], at: usize, len: usize, other: &[u8]) -> &'static str {
    let end = (at + len).min(bytes.len());
    let field = &mut bytes[at.min(end)..end];
    if field.is_empty() {
        return "nothing";
    }
    let before = field.to_vec();
    let how = match way % WAYS {
        0 => {
            let bit = pick.below(field.len() * 8);
            field[bit / 8] ^= 1 << (bit % 8);
            "one bit"
        }
        1 => {
            field.fill(0);
            "all zero"
        }
        2 => {
            field.fill(0xff);
            "all ones"
        }
        3 => {
            field.fill(0);
            field[0] = 1;
            "one"
        }
        4 => {
            let at = pick.below(field.len());
            field[at] = field[at].wrapping_add(1);
            "a byte more"
        }
        5 => {
            let at = pick.below(field.len());
            field[at] = field[at].wrapping_sub(1);
            "a byte less"
        }
        6 => {
            pick.fill(field);
            "anything"
        }
        _ => {
            let len = field.len().min(other.len());
            field[..len].copy_from_slice(&other[..len]);
            "another's"
        }
    };
    if *field == before {
        let bit = pick.below(field.len() * 8);
        field[bit / 8] ^= 1 << (bit % 8);
        return "one bit instead";
    }
    how
}
