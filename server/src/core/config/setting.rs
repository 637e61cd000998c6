//! The macro that makes a section of settings: its type, its defaults and its documentation from
//! one table. What the settings are is in the module above.

/// One setting as `config default` prints it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name in the section.
    pub name: &'static str,
    /// What it means, a line each.
    pub doc: &'static [&'static str],
    /// Whether `reload` applies a change; otherwise it needs a restart.
    pub reloads: bool,
    /// The default in TOML; `None` if the setting is absent by default.
    pub default: Option<String>,
    /// A value to show for an absent one.
    pub example: &'static str,
}

/// Declares a section: `name: Type = default, reloads, "example"`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $( $(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr,
               reloads $reloads:literal $(, example $example:literal)?; )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $( $(#[doc = $doc])+ pub $name: $kind, )*
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $( $name: $default, )* }
            }
        }

        impl $section {
            /// The section's settings with their documentation.
            pub fn settings() -> Vec<$crate::core::config::setting::Setting> {
                let defaults = $section::default();
                vec![ $( $crate::core::config::setting::Setting {
                    name: stringify!($name),
                    doc: &[ $($doc),+ ],
                    reloads: $reloads,
                    default: $crate::core::config::setting::ToToml::to_toml(&defaults.$name),
                    example: concat!("" $(, $example)?),
                }, )* ]
            }

            /// Puts back what needs a restart to what it is in the running server, and names
            /// what would have changed.
            pub(crate) fn keep_fixed(&mut self, running: &$section) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $( if !$reloads && self.$name != running.$name {
                    self.$name.clone_from(&running.$name);
                    changed.push(stringify!($name));
                } )*
                changed
            }

            /// What the section is about.
            pub const ABOUT: &'static [&'static str] = &[ $($about),+ ];
        }
    };
}

pub(super) use section;

/// How a setting's value is written in TOML.
pub(super) trait ToToml {
    /// The value, or `None` for an absent one.
    fn to_toml(&self) -> Option<String>;
}

impl ToToml for u64 {
    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl ToToml for bool {
    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl ToToml for String {
    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::String(self.clone()).to_string())
    }
}

impl ToToml for std::path::PathBuf {
    fn to_toml(&self) -> Option<String> {
        self.display().to_string().to_toml()
    }
}

impl ToToml for Vec<String> {
    fn to_toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(ToToml::to_toml).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl ToToml for Vec<std::net::IpAddr> {
    fn to_toml(&self) -> Option<String> {
        self.iter().map(ToString::to_string).collect::<Vec<String>>().to_toml()
    }
}

impl<T: ToToml> ToToml for Option<T> {
    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(ToToml::to_toml)
    }
}
