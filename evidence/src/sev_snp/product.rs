//! Processors, and the product lines that they are certified under.

/// A product line: one ARK, one ASK, one ASVK and one list of revoked ones (AMD 57230 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProductLine {
    /// ARK-Milan.
    Milan,
    /// ARK-Genoa, under which Bergamo and Siena are certified too.
    Genoa,
    /// ARK-Turin.
    Turin,
}

impl ProductLine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// Its name, as in the root's common name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The line of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.name() == name)
    }

    /// Length of the chip's identity in a VCEK, in bytes (AMD 57230 §3.1, hwID).
    #[must_use]
    pub const fn hwid_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl std::fmt::Display for ProductLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A processor that makes SNP reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 97x4.
    Bergamo,
    /// EPYC 8004.
    Siena,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Milan, Self::Genoa, Self::Bergamo, Self::Siena, Self::Turin];

    /// Its name, as in certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Bergamo => "Bergamo",
            Self::Siena => "Siena",
            Self::Turin => "Turin",
        }
    }

    /// The product of a leaf's productName: the name, in a VCEK with or without `-` and a stepping (AMD 57230 §3.1).
    ///
    /// The stepping there is that of the family's first silicon, not of this chip, so it decides nothing.
    #[must_use]
    pub fn from_product_name(text: &str) -> Option<Self> {
        let (name, stepping) = text.split_once('-').map_or((text, None), |(name, stepping)| (name, Some(stepping)));
        let is_stepping = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let product = Self::ALL.into_iter().find(|product| product.name() == name)?;
        stepping.is_none_or(is_stepping).then_some(product)
    }

    /// The line whose root vouches for it.
    #[must_use]
    pub const fn line(self) -> ProductLine {
        match self {
            Self::Milan => ProductLine::Milan,
            Self::Genoa | Self::Bergamo | Self::Siena => ProductLine::Genoa,
            Self::Turin => ProductLine::Turin,
        }
    }
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// CPUID_FAM_ID, CPUID_MOD_ID and CPUID_STEP of a report (AMD 56860, from version 3, 0x188): family and model with
/// their extended parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl Cpuid {
    /// Can a chip that is certified as `product` say this of itself?
    ///
    /// AMD's key service names Bergamo and Siena, whose cores are of models A0h to AFh, by their line.
    #[must_use]
    pub fn is_of(self, product: Product) -> bool {
        let is_dense = self.family == 0x19 && (0xa0..=0xaf).contains(&self.model);
        match product {
            Product::Milan => self.family == 0x19 && self.model <= 0x0f,
            Product::Genoa => is_dense || (self.family == 0x19 && (0x10..=0x1f).contains(&self.model)),
            Product::Bergamo | Product::Siena => is_dense,
            Product::Turin => self.family == 0x1a && self.model <= 0x1f,
        }
    }
}

impl std::fmt::Display for Cpuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "family {:#04x} model {:#04x} stepping {:#04x}", self.family, self.model, self.stepping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_names_read_with_and_without_a_stepping() {
        assert_eq!(Product::from_product_name("Milan-B0"), Some(Product::Milan));
        assert_eq!(Product::from_product_name("Milan"), Some(Product::Milan));
        assert_eq!(Product::from_product_name("Bergamo"), Some(Product::Bergamo));
        for wrong in ["", "Milan-", "Milan-B0-B1", "Milan-\u{7f}", "milan", "Naples", "Genoa B1", "Turin-ABCDE"] {
            assert_eq!(Product::from_product_name(wrong), None, "{wrong}");
        }
        assert!(Product::ALL.iter().all(|product| ProductLine::from_name(product.line().name()).is_some()));
    }

    #[test]
    fn models_belong_to_one_line() {
        for (family, model, products) in [
            (0x19, 0x01, &[Product::Milan][..]),
            (0x19, 0x11, &[Product::Genoa]),
            (0x19, 0xa0, &[Product::Genoa, Product::Bergamo, Product::Siena]),
            (0x1a, 0x02, &[Product::Turin]),
            (0x1a, 0x11, &[Product::Turin]),
            (0x19, 0x20, &[]),
            (0x1a, 0x50, &[]),
            (0x17, 0x01, &[]),
        ] {
            let cpuid = Cpuid { family, model, stepping: 1 };
            let of: Vec<_> = Product::ALL.into_iter().filter(|product| cpuid.is_of(*product)).collect();
            assert_eq!(of, products, "{cpuid}");
        }
    }
}
