#include "control/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <istream>
#include <iterator>
#include <limits>
#include <new>
#include <streambuf>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace guideway {

// Thrown to leave the parser once there is nothing more to say; the finding has been added.
struct StopParsing {};

namespace {

// What yaml-cpp reads: the text, then a line that ends the document. The end mark makes yaml-cpp
// refuse a quoted scalar that is never closed, which it would otherwise take.
//
// yaml-cpp keeps the whole of a flow collection as tokens until it is closed, about 90 bytes for
// each byte of it. So the text is cut off when too much of it was read without an event.
class BoundedText : public std::streambuf {
 public:
  static constexpr size_t kMaxAhead = size_t{8} << 20;

  BoundedText(absl::string_view text, Findings* findings) : text_(text), findings_(findings) {}

  void OnEvent(size_t position) {
    at_event_ = read_;
    event_position_ = position;
  }

 protected:
  int_type underflow() override {
    static constexpr absl::string_view kEnd = "\n...\n";
    constexpr size_t kChunk = 4096;
    absl::string_view chunk = text_.substr(std::min(read_, text_.size()), kChunk);
    if (chunk.empty() && !ended_) {
      ended_ = true;
      chunk = kEnd;
    }
    if (chunk.empty()) return traits_type::eof();
    if (read_ - at_event_ > kMaxAhead) {
      findings_->Error(event_position_,
                       "more than 8 MiB of text follow here without a value; a long list is "
                       "written with one item a line, each after a dash");
      throw StopParsing();
    }
    read_ += chunk.size();
    char* start = const_cast<char*>(chunk.data());
    setg(start, start, start + chunk.size());
    return traits_type::to_int_type(*start);
  }

 private:
  absl::string_view text_;
  Findings* findings_;
  size_t read_ = 0;
  size_t at_event_ = 0;        // read_ at the last event
  size_t event_position_ = 0;  // where that was in the text
  bool ended_ = false;
};

// The length of the UTF-8 character at `text[i]`, or 0 if there is none (RFC 3629).
size_t Utf8Length(absl::string_view text, size_t i) {
  const auto byte = [&](size_t k) -> uint8_t {
    return i + k < text.size() ? static_cast<uint8_t>(text[i + k]) : 0;
  };
  const auto continues = [&](size_t k) { return (byte(k) & 0xc0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first < 0xf0) {
    const bool overlong = first == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = first == 0xed && byte(1) >= 0xa0;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first < 0xf5) {
    const bool overlong = first == 0xf0 && byte(1) < 0x90;
    const bool beyond = first == 0xf4 && byte(1) >= 0x90;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// Whether every byte may be in a configuration; if not, says so.
bool CheckBytes(absl::string_view text, Findings* findings) {
  const auto nul_at = [&](size_t a, size_t b) {
    return text.size() >= 4 && text[a] == '\0' && text[b] == '\0';
  };
  if (absl::StartsWith(text, "\xff\xfe") || absl::StartsWith(text, "\xfe\xff") || nul_at(0, 2) ||
      nul_at(1, 3)) {
    findings->Error(0, "the file is UTF-16 or UTF-32; only UTF-8 is allowed");
    return false;
  }
  for (size_t i = 0; i < text.size();) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const size_t length = Utf8Length(text, i);
    if (length == 0) {
      findings->Error(i, absl::StrFormat("found the byte 0x%02x, which is not UTF-8; only UTF-8 "
                                         "text is allowed",
                                         byte));
      return false;
    }
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      findings->Error(i, absl::StrFormat("found the control character 0x%02x; only printable text, "
                                         "tabs and line ends are allowed",
                                         byte));
      return false;
    }
    if (byte == '\r' && (i + 1 >= text.size() || text[i + 1] != '\n')) {
      findings->Error(i, "found a carriage return alone; lines end with LF or CR LF");
      return false;
    }
    i += length;
  }
  return true;
}

// Whether `text` has an explicit null at `position`.
bool IsNullWord(absl::string_view text, size_t position) {
  const absl::string_view rest = text.substr(std::min(position, text.size()), 5);
  if (absl::StartsWith(rest, "~")) return true;
  for (const absl::string_view word : {"null", "Null", "NULL"}) {
    if (absl::StartsWith(rest, word))
      return rest.size() == 4 || absl::StrContains(" \n\r,]}", rest.substr(4));
  }
  return false;
}

// yaml-cpp's sentence in this file's words.
std::string SyntaxError(absl::string_view message, bool at_end, absl::string_view line) {
  if (message == YAML::ErrorMsg::UNKNOWN_ANCHOR) return "aliases are not allowed; write the value";
  if (at_end && message == YAML::ErrorMsg::DOC_IN_SCALAR) {
    return "not YAML: the file ends inside a text in quotes";
  }
  namespace error = YAML::ErrorMsg;
  const struct {
    absl::string_view message;  // or how it begins
    absl::string_view plain;
  } kPlain[] = {
      {error::END_OF_SEQ_FLOW,
       "the list in [ ] is not closed; allowed after an item: \",\" or \"]\""},
      {error::END_OF_MAP_FLOW,
       "the mapping in { } is not closed; allowed after a value: \",\" or "
       "\"}\""},
      {error::FLOW_END, "nothing opens this bracket; a text with brackets needs quotes"},
      {error::END_OF_MAP, "the line is not of the mapping above; its keys begin in one column"},
      {error::END_OF_SEQ, "the line is not of the list above; its dashes stand in one column"},
      {error::MAP_VALUE, "no key can stand here; a text with \": \" in it needs quotes"},
      {error::MAP_KEY, "no key can stand here; keys begin lines"},
      {error::BLOCK_ENTRY, "no dash of a list can stand here; allowed at the begin of a line"},
      {error::UNKNOWN_TOKEN, "no text begins with this character; put it in quotes"},
      {error::INVALID_ESCAPE,
       "there is no such escape in \"quotes\"; allowed are \\n, \\t, \\\", \\\\ "
       "and others of YAML's, and in 'single quotes' a backslash is one"},
      {error::INVALID_HEX, "\\x, \\u and \\U need 2, 4 and 8 hexadecimal digits"},
      {error::INVALID_UNICODE, "this escape is no character"},
      {error::DOC_IN_SCALAR, "--- or ... ends the document inside a text in quotes"},
      {error::TAB_IN_INDENTATION, "a tab cannot indent"},
      {error::CHAR_IN_BLOCK, "behind | or > stands +, -, 1 to 9, or nothing"},
      {error::ZERO_INDENT_IN_BLOCK, "behind | or > stands +, -, 1 to 9, or nothing"},
      {error::ALIAS_NOT_FOUND, "a text that begins with * needs quotes; aliases are not allowed"},
      {error::CHAR_IN_ALIAS, "a text that begins with * needs quotes; aliases are not allowed"},
      {error::ANCHOR_NOT_FOUND, "a text that begins with & needs quotes; anchors are not allowed"},
      {error::CHAR_IN_ANCHOR, "a text that begins with & needs quotes; anchors are not allowed"},
      {error::CHAR_IN_TAG_HANDLE, "a text that begins with ! needs quotes; tags are not allowed"},
      {error::TAG_WITH_NO_SUFFIX, "a text that begins with ! needs quotes; tags are not allowed"},
      {error::END_OF_VERBATIM_TAG, "a text that begins with ! needs quotes; tags are not allowed"},
      {error::MULTIPLE_TAGS, "tags are not allowed"},
      {error::YAML_DIRECTIVE_ARGS, "a %YAML line names one version; leave it out"},
      {error::YAML_VERSION, "a %YAML line names one version; leave it out"},
      {error::YAML_MAJOR_VERSION, "only YAML 1 is allowed; leave the %YAML line out"},
      {error::REPEATED_YAML_DIRECTIVE, "a second %YAML line; leave it out"},
      {error::TAG_DIRECTIVE_ARGS, "tags are not allowed; leave the %TAG line out"},
      {error::REPEATED_TAG_DIRECTIVE, "tags are not allowed; leave the %TAG line out"},
  };
  const auto* const plain =
      std::find_if(std::begin(kPlain), std::end(kPlain),
                   [&](const auto& row) { return absl::StartsWith(message, row.message); });
  std::string text = absl::StrCat("not YAML: ", plain == std::end(kPlain) ? message : plain->plain);
  const absl::string_view indent = line.substr(0, line.find_first_not_of(" \t"));
  if (absl::StrContains(indent, "\t")) {
    absl::StrAppend(&text, " (the line starts with a tab; YAML indents with spaces)");
  }
  return text;
}

}  // namespace

// Turns yaml-cpp's events into nodes.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const SourceText& source, size_t skipped, BoundedText* input, Findings* findings)
      : source_(source), skipped_(skipped), input_(input), findings_(findings) {}

  YamlTree Take() {
    if (tree_.nodes_.empty()) tree_.nodes_.emplace_back();
    return std::move(tree_);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) Stop(Position(mark), "a second document starts here; one is allowed");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Begin(NullPosition(Position(mark)), "", anchor, YamlNode::Kind::kNull);
    Complete();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    findings_->Error(Position(mark), "aliases are not allowed; write the value");
    Begin(Position(mark), "", 0, YamlNode::Kind::kNull);
    Complete();
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const size_t position = Position(mark);
    const bool plain = tag == "?";
    const bool is_key = AtKey();
    Begin(position, tag, anchor, plain ? YamlNode::Kind::kPlain : YamlNode::Kind::kQuoted);
    if (plain && is_key && value == "<<") {
      findings_->Error(position, "merge keys are not allowed; write the keys");
    }
    YamlNode& node = tree_.nodes_.back();
    node.text_offset = static_cast<uint32_t>(tree_.texts_.size());
    node.text_size = static_cast<uint32_t>(value.size());
    tree_.texts_ += value;
    Complete();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Position(mark), tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(Position(mark), tag, anchor, YamlNode::Kind::kMapping);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Level {
    uint32_t node;
    uint32_t children = 0;
    uint32_t last_key = 0;  // position of the key before a value
  };

  size_t Position(const YAML::Mark& mark) const {
    return skipped_ + static_cast<size_t>(std::max(mark.pos, 0));
  }

  [[noreturn]] void Stop(size_t position, std::string text) {
    findings_->Error(position, std::move(text));
    throw StopParsing();
  }

  bool AtKey() const {
    return !levels_.empty() && tree_.nodes_[levels_.back().node].kind == YamlNode::Kind::kMapping &&
           levels_.back().children % 2 == 0;
  }

  // yaml-cpp gives the place of the token after an absent value. What can be shown is what stands
  // before it: the key, or the dash.
  size_t NullPosition(size_t position) const {
    const absl::string_view text = source_.text();
    if (IsNullWord(text, position) || levels_.empty()) return position;
    const Level& level = levels_.back();
    if (tree_.nodes_[level.node].kind == YamlNode::Kind::kMapping) {
      return level.children % 2 == 1 ? level.last_key : position;
    }
    size_t line_end = std::min(position, text.size());
    while (line_end > 0) {
      const size_t newline = text.rfind('\n', line_end - 1);
      const size_t line_start = newline == absl::string_view::npos ? 0 : newline + 1;
      const absl::string_view line = text.substr(line_start, line_end - line_start);
      const size_t first = line.find_first_not_of(" \t\r\n");
      if (first != absl::string_view::npos && line[first] != '#') return line_start + first;
      line_end = line_start == 0 ? 0 : line_start - 1;
    }
    return position;
  }

  // Adds a node; refuses what no node may have.
  void Begin(size_t position, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    input_->OnEvent(position);
    if (anchor != 0) findings_->Error(position, "anchors are not allowed; write the value again");
    const absl::string_view text = source_.text();
    const bool explicit_tag = position < text.size() && text[position] == '!';
    if ((!tag.empty() && tag != "?" && tag != "!") || explicit_tag) {
      findings_->Error(position, "tags are not allowed; the key says what type its value has");
    }
    if (AtKey()) {
      levels_.back().last_key = static_cast<uint32_t>(position);
      if (kind != YamlNode::Kind::kPlain && kind != YamlNode::Kind::kQuoted) {
        Stop(position, "a key is expected here, and a key is one word");
      }
    }
    if (tree_.nodes_.size() >= YamlTree::kMaxNodes) {
      Stop(position, absl::StrCat("more than ", YamlTree::kMaxNodes, " keys and values"));
    }
    if (findings_->full()) throw StopParsing();
    YamlNode node;
    node.kind = kind;
    node.position = static_cast<uint32_t>(position);
    tree_.nodes_.push_back(node);
  }

  // The node just added, or the collection just closed, is whole.
  void Complete() {
    if (!levels_.empty()) ++levels_.back().children;
  }

  void Open(size_t position, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (levels_.size() >= YamlTree::kMaxDepth) {
      Stop(position, absl::StrCat("nested deeper than ", YamlTree::kMaxDepth, " levels"));
    }
    Begin(position, tag, anchor, kind);
    levels_.push_back({static_cast<uint32_t>(tree_.nodes_.size() - 1)});
  }

  void Close() {
    const uint32_t node = levels_.back().node;
    tree_.nodes_[node].span = static_cast<uint32_t>(tree_.nodes_.size() - node);
    levels_.pop_back();
    Complete();
  }

  const SourceText& source_;
  const size_t skipped_;
  BoundedText* input_;
  Findings* findings_;
  YamlTree tree_;
  std::vector<Level> levels_;
  int documents_ = 0;
};

std::optional<YamlTree> YamlTree::Parse(const SourceText& source, Findings* findings) {
  absl::string_view text = source.text();
  static_assert(kMaxNodes < std::numeric_limits<uint32_t>::max());
  if (!CheckBytes(text, findings)) return std::nullopt;
  const size_t skipped = absl::ConsumePrefix(&text, "\xef\xbb\xbf") ? 3 : 0;

  BoundedText input(text, findings);
  TreeBuilder builder(source, skipped, &input, findings);
  try {
    std::istream stream(&input);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const StopParsing&) {
  } catch (const YAML::Exception& e) {
    const size_t position = skipped + static_cast<size_t>(std::max(e.mark.pos, 0));
    const absl::string_view all = source.text();
    const size_t newline = position == 0 ? absl::string_view::npos : all.rfind('\n', position - 1);
    const size_t line = newline == absl::string_view::npos ? 0 : newline + 1;
    findings->Error(position, SyntaxError(e.msg, position >= all.size(),
                                          all.substr(std::min(line, all.size()), 256)));
  } catch (const std::bad_alloc&) {
    findings->Error(0, "not enough memory to read the file");
  }
  if (findings->has_errors()) return std::nullopt;
  return builder.Take();
}

const YamlNode* YamlTree::FindKey(const YamlNode& mapping, absl::string_view key) const {
  if (mapping.kind != YamlNode::Kind::kMapping) return nullptr;
  for (const YamlNode* k = mapping.begin(); k != mapping.end(); k = k->next()->next()) {
    if (text(*k) == key) return k;
  }
  return nullptr;
}

const YamlNode* YamlTree::Find(const YamlNode& mapping, absl::string_view key) const {
  const YamlNode* found = FindKey(mapping, key);
  return found == nullptr ? nullptr : found->next();
}

}  // namespace guideway
