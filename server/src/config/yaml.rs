//! A YAML document (or JSON, which is YAML) as a tree.
//!
//! Pure. Invariants: only the first document of a file is read, as in etcd. Limits: the size of the
//! text is limited by [`super::file`]; [`NODES_MAX`] bounds what anchors can multiply it to, and
//! [`DEPTH_MAX`] how deep it may go.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Nodes of one document, aliases counted as often as they are used.
const NODES_MAX: usize = 10_000;
/// Levels of one document; etcd's keys need three.
const DEPTH_MAX: usize = 32;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A scalar; `plain` is false when it stood in quotes and so can only be text.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file.
    Mapping(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for an error text.
    pub fn describe(&self) -> String {
        match self {
            Node::Scalar { text, .. } => format!("{text:?}"),
            Node::Sequence(_) => "a list".to_owned(),
            Node::Mapping(_) => "keys and values".to_owned(),
        }
    }

    /// Whether it is null: a key without a value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Node::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn size(&self) -> usize {
        match self {
            Node::Scalar { .. } => 1,
            Node::Sequence(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Node::Mapping(pairs) => 1 + pairs.iter().map(|(_, node)| node.size()).sum::<usize>(),
        }
    }
}

/// Reads the first document; `None` when there is nothing in it.
///
/// # Errors
/// What is wrong, with line and column.
pub fn parse_document(text: &str) -> Result<Option<Node>, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(None),
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return reader.node(event, 0).map(Some),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.events.next() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(format!(
                "line {} column {}: {}",
                error.marker().line(),
                error.marker().col() + 1,
                error.info()
            )),
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels"));
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, _) => (
                anchor,
                Node::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                },
            ),
            Event::Alias(anchor) => {
                let node = self
                    .anchors
                    .get(&anchor)
                    .ok_or("unknown anchor referenced")?;
                (0, node.clone())
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth)?),
            other => return Err(format!("unexpected {other:?}")),
        };
        self.nodes += node.size();
        if self.nodes > NODES_MAX {
            return Err(format!("more than {NODES_MAX} nodes"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::Sequence(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, String> {
        let mut pairs = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Node::Mapping(pairs)),
                Event::Scalar(text, ..) if text == "<<" => {
                    return Err("merge keys (<<) are not supported".to_owned());
                }
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err("a key must be text".to_owned()),
            };
            let value = self.next()?;
            pairs.push((key, self.node(value, depth + 1)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Node {
        Node::Scalar {
            text: text.to_owned(),
            plain: true,
        }
    }

    #[test]
    fn yaml_and_json_give_the_same_tree() {
        let tree = Node::Mapping(vec![
            ("a".to_owned(), plain("1")),
            ("b".to_owned(), Node::Sequence(vec![plain("x"), plain("y")])),
        ]);
        assert_eq!(
            parse_document("a: 1\nb:\n- x\n- y\n"),
            Ok(Some(tree.clone()))
        );
        assert_eq!(
            parse_document("{\"a\": 1, \"b\": [x, y]}"),
            Ok(Some(tree.clone()))
        );
        assert_eq!(
            parse_document("a: 1\nb: [x, y]\n---\nc: 2\n"),
            Ok(Some(tree))
        );
    }

    #[test]
    fn nothing_and_nonsense() {
        assert_eq!(parse_document(""), Ok(None));
        assert_eq!(parse_document("# only a remark\n"), Ok(None));
        assert!(parse_document("a: [\n").is_err());
        assert!(parse_document("a: *x\n").is_err());
        assert!(
            parse_document("a: &x {b: 1}\n<<: *x\n")
                .unwrap_err()
                .contains("merge keys")
        );
    }

    #[test]
    fn anchors_work_and_cannot_multiply_without_bound() {
        let tree = parse_document("a: &x 5\nb: *x\n").unwrap().unwrap();
        assert_eq!(
            tree,
            Node::Mapping(vec![
                ("a".to_owned(), plain("5")),
                ("b".to_owned(), plain("5"))
            ])
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}", level - 1);
            let aliases = vec![alias; 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse_document(&bomb).unwrap_err().contains("nodes"));
    }

    #[test]
    fn depth_is_bounded() {
        let text = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        assert!(parse_document(&text).unwrap_err().contains("levels"));
    }
}
