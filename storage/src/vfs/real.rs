//! The operating system behind [`super::Vfs`].
