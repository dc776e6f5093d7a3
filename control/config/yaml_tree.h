// YAML text as a tree of scalars, lists and mappings that know where they stood.
//
// The first step of LoadConfig (config.h). It takes the part of YAML that a configuration needs and
// refuses the rest with its place: anchors, aliases, tags, merge keys, keys that are not plain
// words, a second document, nesting over 32, bytes that are not UTF-8, control characters. It knows
// nothing of types: a plain scalar is its text as written, so that YAML 1.1's ideas of `yes`, `010`
// and `12:30` never come up; what a text means is for the schema to say.
//
// Layout. One array of nodes in the order of the text: a node, then its children, each followed by
// its own. `span` counts a node and everything below it, so the next sibling is `node + span`. A
// mapping's children are key, value, key, value. Texts lie in one string beside it. So 20 bytes a
// node bound the memory that a hostile file can take.
//
// Immutable after Parse; pointers to nodes stay valid as long as the tree.
#ifndef GUIDEWAY_CONTROL_CONFIG_YAML_TREE_H_
#define GUIDEWAY_CONTROL_CONFIG_YAML_TREE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "control/config/diagnostics.h"

namespace guideway {

struct YamlNode {
  enum class Kind : uint8_t { kNull, kPlain, kQuoted, kSequence, kMapping };

  Kind kind = Kind::kNull;
  uint32_t position = 0;  // byte offset; of an absent value, of the key or dash before it
  uint32_t span = 1;
  uint32_t text_offset = 0;
  uint32_t text_size = 0;

  bool is_scalar() const { return kind == Kind::kPlain || kind == Kind::kQuoted; }
  // The first child and the end of the children.
  const YamlNode* begin() const { return this + 1; }
  const YamlNode* end() const { return this + span; }
  const YamlNode* next() const { return this + span; }
};

class YamlTree {
 public:
  static constexpr size_t kMaxDepth = 32;
  static constexpr size_t kMaxNodes = size_t{1} << 24;

  // Nothing when `findings` got an error. Never throws.
  static std::optional<YamlTree> Parse(const SourceText& source, Findings* findings);

  YamlTree(YamlTree&&) = default;
  YamlTree& operator=(YamlTree&&) = default;

  // A null node for a text without content.
  const YamlNode& root() const { return nodes_.front(); }
  absl::string_view text(const YamlNode& node) const {
    return absl::string_view(texts_).substr(node.text_offset, node.text_size);
  }
  // The value of a key of a mapping, or null.
  const YamlNode* Find(const YamlNode& mapping, absl::string_view key) const;
  // The key itself, or null.
  const YamlNode* FindKey(const YamlNode& mapping, absl::string_view key) const;

 private:
  friend class TreeBuilder;
  YamlTree() = default;

  std::vector<YamlNode> nodes_;
  std::string texts_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_YAML_TREE_H_
