#include "control/config/render_yaml.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "control/config/config_values.h"
#include "control/config/scalars.h"

namespace guideway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A double-quoted YAML scalar.
std::string Quoted(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\n': quoted += "\\n"; break;
      case '\t': quoted += "\\t"; break;
      case '\r': quoted += "\\r"; break;
      default:
        if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
          absl::StrAppendFormat(&quoted, "\\x%02x", c);
        } else {
          quoted += c;
        }
    }
  }
  return quoted + "\"";
}

// As few digits as give the same number again, and no exponent, which is text to YAML 1.1 unless it
// has a point and a sign.
template <typename Float>
std::string Number(Float number) {
  if (std::isnan(number)) return ".nan";
  if (std::isinf(number)) return number < 0 ? "-.inf" : ".inf";
  char digits[1100];  // the smallest number has 1074 behind its point
  const auto end = std::to_chars(digits, std::end(digits), number, std::chars_format::fixed).ptr;
  return std::string(digits, end);
}

// Whether a text reads as itself, and as text, in any YAML reader without quotes.
bool IsPlainSafe(absl::string_view text) {
  if (text.empty() || text.size() > 200) return false;
  const auto word_character = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
           c == '/' || c == '%' || c == ',' || c == '=' || c == '+';
  };
  const char first = text[0];
  if (!std::all_of(text.begin(), text.end(), word_character)) return false;
  if (!absl::ascii_isalnum(static_cast<unsigned char>(first)) && first != '/') return false;
  double number;
  if (absl::SimpleAtod(text, &number)) return false;
  const bool like_number = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == '_' || c == 'x' ||
           c == 'X' || c == 'o' || c == '+' || c == '.';
  });
  if (absl::ascii_isdigit(static_cast<unsigned char>(first)) && like_number) {
    // An IPv4 address is no number to anyone.
    return std::count(text.begin(), text.end(), '.') == 3;
  }
  // A date, to a YAML 1.1 reader.
  const bool like_date = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-';
  });
  if (like_date && std::count(text.begin(), text.end(), '-') == 2) return false;
  const std::string lower = absl::AsciiStrToLower(text);
  for (const absl::string_view word :
       {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"}) {
    if (lower == word) return false;
  }
  return true;
}

class Renderer {
 public:
  std::string Take() { return std::move(out_); }

  // The fields of `message`, each on lines of their own at `indent`. The first line of a list item
  // has its dash already.
  void Fields(const Message& message, size_t indent, bool after_dash) {
    const Reflection* reflection = message.GetReflection();
    bool first = after_dash;
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* field = message.GetDescriptor()->field(i);
      if (!IsPrinted(message, field)) continue;
      if (!first) out_.append(indent, ' ');
      first = false;
      absl::StrAppend(&out_, field->name(), ":");
      if (field->is_map()) {
        Map(message, field, indent);
      } else if (field->is_repeated()) {
        List(message, field, indent);
      } else if (IsSubMessage(field)) {
        SubMessage(reflection->GetMessage(message, field), indent);
      } else {
        absl::StrAppend(&out_, " ", Scalar(message, field, -1), "\n");
      }
    }
  }

  static bool HasFields(const Message& message) {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      if (IsPrinted(message, message.GetDescriptor()->field(i))) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kStep = 2;

  static bool IsSubMessage(const FieldDescriptor* field) {
    return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
           !IsDuration(field->message_type());
  }

  static bool IsPrinted(const Message& message, const FieldDescriptor* field) {
    const Reflection* reflection = message.GetReflection();
    if (field->is_repeated()) {
      const bool may_be_absent = field->options().HasExtension(config::rules) &&
                                 !RulesOf(field).required() && !RulesOf(field).empty_counts();
      return reflection->FieldSize(message, field) > 0 || !may_be_absent;
    }
    return !field->has_presence() || reflection->HasField(message, field);
  }

  // After «key:».
  void SubMessage(const Message& message, size_t indent) {
    const google::protobuf::Descriptor* descriptor = message.GetDescriptor();
    if (IsChoice(descriptor)) {
      const FieldDescriptor* chosen =
          message.GetReflection()->GetOneofFieldDescriptor(message, descriptor->oneof_decl(0));
      if (chosen != nullptr && chosen->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
          !HasFields(message.GetReflection()->GetMessage(message, chosen))) {
        absl::StrAppend(&out_, " ", chosen->name(), "\n");
        return;
      }
    }
    if (!HasFields(message)) {
      out_ += " {}\n";
      return;
    }
    out_ += "\n";
    Fields(message, indent + kStep, false);
  }

  void List(const Message& message, const FieldDescriptor* field, size_t indent) {
    const int size = message.GetReflection()->FieldSize(message, field);
    if (size == 0) {
      out_ += " []\n";
      return;
    }
    if (!IsSubMessage(field) && ScalarsOnOneLine(message, field, size)) return;
    out_ += "\n";
    for (int i = 0; i < size; ++i) {
      out_.append(indent + kStep, ' ');
      out_ += "- ";
      if (!IsSubMessage(field)) {
        absl::StrAppend(&out_, Scalar(message, field, i), "\n");
        continue;
      }
      const Message& item = message.GetReflection()->GetRepeatedMessage(message, field, i);
      if (HasFields(item)) {
        Fields(item, indent + 2 * kStep, true);
      } else {
        out_ += "{}\n";
      }
    }
  }

  // «[80, 443]», if that is short.
  bool ScalarsOnOneLine(const Message& message, const FieldDescriptor* field, int size) {
    constexpr size_t kShort = 80;
    std::string line;
    for (int i = 0; i < size && line.size() <= kShort; ++i) {
      const std::string item = Scalar(message, field, i);
      const bool ends_early = item[0] != '"' && item.find(',') != std::string::npos;
      absl::StrAppend(&line, i == 0 ? "" : ", ", ends_early ? Quoted(item) : item);
    }
    if (line.size() > kShort) return false;
    absl::StrAppend(&out_, " [", line, "]\n");
    return true;
  }

  // By key, so that the text does not depend on the map's order.
  void Map(const Message& message, const FieldDescriptor* field, size_t indent) {
    const Reflection* reflection = message.GetReflection();
    const FieldDescriptor* key = field->message_type()->map_key();
    const FieldDescriptor* value = field->message_type()->map_value();
    std::vector<std::pair<std::string, const Message*>> entries;
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      const Message& entry = reflection->GetRepeatedMessage(message, field, i);
      entries.emplace_back(Scalar(entry, key, -1), &entry);
    }
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    out_ += entries.empty() ? " {}\n" : "\n";
    for (const auto& [name, entry] : entries) {
      out_.append(indent + kStep, ' ');
      absl::StrAppend(&out_, name, ":");
      if (IsSubMessage(value)) {
        SubMessage(entry->GetReflection()->GetMessage(*entry, value), indent + kStep);
      } else {
        absl::StrAppend(&out_, " ", Scalar(*entry, value, -1), "\n");
      }
    }
  }

  // A singular field, or one item of a list.
  static std::string Scalar(const Message& message, const FieldDescriptor* field, int index) {
    const Reflection* r = message.GetReflection();
    const bool item = index >= 0;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return (item ? r->GetRepeatedBool(message, field, index) : r->GetBool(message, field))
                   ? "true"
                   : "false";
      case FieldDescriptor::CPPTYPE_INT32:
        return absl::StrCat(item ? r->GetRepeatedInt32(message, field, index)
                                 : r->GetInt32(message, field));
      case FieldDescriptor::CPPTYPE_INT64:
        return absl::StrCat(item ? r->GetRepeatedInt64(message, field, index)
                                 : r->GetInt64(message, field));
      case FieldDescriptor::CPPTYPE_UINT32:
        return absl::StrCat(item ? r->GetRepeatedUInt32(message, field, index)
                                 : r->GetUInt32(message, field));
      case FieldDescriptor::CPPTYPE_UINT64:
        return absl::StrCat(item ? r->GetRepeatedUInt64(message, field, index)
                                 : r->GetUInt64(message, field));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return Number(item ? r->GetRepeatedFloat(message, field, index)
                           : r->GetFloat(message, field));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return Number(item ? r->GetRepeatedDouble(message, field, index)
                           : r->GetDouble(message, field));
      case FieldDescriptor::CPPTYPE_ENUM:
        return (item ? r->GetRepeatedEnum(message, field, index) : r->GetEnum(message, field))
            ->name();
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string text =
            item ? r->GetRepeatedString(message, field, index) : r->GetString(message, field);
        const absl::string_view view(text);
        const bool plain = RulesOf(field).format() == config::Format::ports || IsPlainSafe(view);
        return plain ? text : Quoted(view);
      }
      case FieldDescriptor::CPPTYPE_MESSAGE: {
        const Message& duration =
            item ? r->GetRepeatedMessage(message, field, index) : r->GetMessage(message, field);
        return FormatConfigDuration(ToDuration(
            *google::protobuf::DynamicCastToGenerated<google::protobuf::Duration>(&duration)));
      }
    }
    return "";
  }

  std::string out_;
};

}  // namespace

std::string RenderYaml(const Message& message) {
  if (!Renderer::HasFields(message)) return "{}\n";
  Renderer renderer;
  renderer.Fields(message, 0, false);
  return renderer.Take();
}

}  // namespace guideway
