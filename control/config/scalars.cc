#include "control/config/scalars.h"

#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "control/config/config_values.h"
#include "control/config/diagnostics.h"
#include "maglev/net.h"

namespace guideway {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxText = 4096;

bool OnlyOf(absl::string_view text, bool (*allowed)(char)) {
  return std::all_of(text.begin(), text.end(), allowed);
}

bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsHexDigit(char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); }
bool IsVisible(char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); }

bool IsName(absl::string_view text, size_t longest) {
  return !text.empty() && text.size() <= longest && IsAlnum(text[0]) &&
         OnlyOf(text, [](char c) { return IsAlnum(c) || c == '.' || c == '_' || c == '-'; });
}

// A DNS name or an address: what goes into a Host header. Underscores occur in practice.
bool IsHost(absl::string_view text) {
  if (IpAddress::Parse(text).ok()) return true;
  // Parts of 1 to 63 bytes (RFC 1035, section 2.3.4), and perhaps a last dot.
  const std::vector<absl::string_view> labels = absl::StrSplit(absl::StripSuffix(text, "."), '.');
  return IsName(text, 253) && std::all_of(labels.begin(), labels.end(), [](absl::string_view l) {
           return !l.empty() && l.size() <= 63;
         });
}

bool IsLink(absl::string_view text) {
  return !text.empty() && text.size() <= 15 && text != "." && text != ".." &&
         OnlyOf(text, [](char c) { return IsVisible(c) && c != '/' && c != ':' && c != '%'; });
}

// A PCI address with its domain.
bool IsPciAddress(absl::string_view text) {
  constexpr absl::string_view kPattern = "xxxx:xx:xx.x";
  return std::equal(text.begin(), text.end(), kPattern.begin(), kPattern.end(),
                    [](char c, char p) { return p == 'x' ? IsHexDigit(c) : c == p; });
}

bool IsUnicast(const IpAddress& address) {
  if (address.is_multicast()) return false;
  const uint8_t* bytes = address.bytes();
  const size_t size = static_cast<size_t>(address.bits() / 8);
  const auto all = [&](uint8_t value) {
    return std::all_of(bytes, bytes + size, [value](uint8_t b) { return b == value; });
  };
  return !all(0) && !(address.is_v4() && all(0xff));
}

// A network or host that packets can be sent to.
bool IsVipPrefix(const Prefix& prefix) {
  return prefix.is_host() ? IsUnicast(prefix.address) : !prefix.address.is_multicast();
}

// What a string field's format says about `text`: OK, or an error whose message may be empty when
// AllowedIn says it all.
absl::Status CheckFormat(config::Format::Value format, absl::string_view text) {
  const auto require = [](bool ok) {
    return ok ? absl::OkStatus() : absl::InvalidArgumentError("");
  };
  using config::Format;
  switch (format) {
    case Format::text: return require(!text.empty());
    case Format::any_text: return absl::OkStatus();
    case Format::name: return require(IsName(text, 63));
    case Format::link: return require(IsLink(text));
    case Format::device:
      return require(OnlyOf(text, IsVisible) && CanonicalDevice(text).has_value());
    case Format::path:
      return require(!text.empty() && OnlyOf(text, [](char c) {
        return !absl::ascii_iscntrl(static_cast<unsigned char>(c));
      }));
    case Format::url_path: return require(absl::StartsWith(text, "/") && OnlyOf(text, IsVisible));
    case Format::host: return require(IsHost(text));
    case Format::address:
    case Format::address_v4:
    case Format::address_v6: {
      const absl::StatusOr<IpAddress> address = IpAddress::Parse(text);
      if (!address.ok()) return require(false);
      if (format == Format::address_v4 && !address->is_v4()) return require(false);
      if (format == Format::address_v6 && !address->is_v6()) return require(false);
      return require(IsUnicast(*address));
    }
    case Format::prefix:
    case Format::prefix_v4:
    case Format::prefix_v6:
    case Format::vip: {
      const absl::StatusOr<Prefix> prefix = Prefix::Parse(text);
      if (!prefix.ok()) return prefix.status();
      if (format == Format::prefix_v4 && !prefix->address.is_v4()) return require(false);
      if (format == Format::prefix_v6 && !prefix->address.is_v6()) return require(false);
      if (format != Format::vip) return absl::OkStatus();
      return require(IsVipPrefix(*prefix));
    }
    case Format::mac: {
      const absl::StatusOr<MacAddress> mac = MacAddress::Parse(text);
      return require(mac.ok() && !mac->is_multicast() && !mac->is_zero());
    }
    case Format::ports: return require(ParsePortRange(text).ok());
    case Format::percent: return require(ParsePercent(text).ok());
    case Format::status: return require(ParseStatusRange(text).ok());
    case Format::hex:
      return require(!text.empty() && text.size() % 2 == 0 && OnlyOf(text, IsHexDigit));
    case Format::endpoint: return require(ParseEndpoint(text).ok());
    default: return absl::InternalError("unknown format");
  }
}

std::string AllowedText(const config::Rules& rules) {
  const size_t longest = rules.max_length() == 0 ? kMaxText : rules.max_length();
  using config::Format;
  switch (rules.format()) {
    case Format::text: return absl::StrCat("text of 1 to ", longest, " bytes");
    case Format::any_text: return absl::StrCat("text of at most ", longest, " bytes");
    case Format::name:
      return "a name: letters, digits, '.', '_' and '-', at most 63, a letter or digit first";
    case Format::link: return "a network interface's name, at most 15 characters";
    case Format::device:
      return "a PCI address such as 0000:3b:00.0 or a DPDK device such as net_tap0,iface=gw0 or "
             "net_af_xdp0,iface=eth1";
    case Format::path: return absl::StrCat("a path of at most ", longest, " bytes");
    case Format::url_path: return "a path of a URL that starts with /";
    case Format::host: return "a host name such as www.example.com";
    case Format::address: return "a unicast address such as 192.0.2.1 or \"2001:db8::1\"";
    case Format::address_v4: return "a unicast IPv4 address such as 192.0.2.1";
    case Format::address_v6: return "a unicast IPv6 address such as \"2001:db8::1\"";
    case Format::prefix: return "a prefix such as 192.0.2.0/24 or \"2001:db8::/32\"";
    case Format::prefix_v4: return "an IPv4 prefix such as 192.0.2.0/24";
    case Format::prefix_v6: return "an IPv6 prefix such as \"2001:db8::/32\"";
    case Format::vip: return "a unicast address or prefix such as 192.0.2.1 or 192.0.2.0/24";
    case Format::mac: return "a unicast MAC address such as \"02:00:00:00:00:01\"";
    case Format::ports: return "a port from 1 to 65535 or a range such as 8000-8100";
    case Format::percent: return "0% to 100%";
    case Format::status: return "an HTTP status from 100 to 599 or a range such as 200-299";
    case Format::hex:
      return absl::StrCat("an even number of hexadecimal digits, at most ", longest);
    case Format::endpoint: return "an address and a port such as 127.0.0.1:9909 or \"[::1]:9909\"";
    default: return "text";
  }
}

// A decimal number without sign, leading zeros or anything else.
bool ParseNumber(absl::string_view text, uint64_t* number) {
  const bool plain = !text.empty() && text.size() <= 20 && OnlyOf(text, IsDigit) &&
                     (text[0] != '0' || text.size() == 1);
  return plain && absl::SimpleAtoi(text, number);
}

struct Bounds {
  uint64_t min = 0;
  uint64_t max = 0;
};

Bounds NumberBounds(const FieldDescriptor* field) {
  const config::Rules& rules = RulesOf(field);
  Bounds bounds;
  bounds.max = field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32
                   ? std::numeric_limits<uint32_t>::max()
                   : std::numeric_limits<uint64_t>::max();
  (void)ParseNumber(absl::string_view(rules.min()), &bounds.min);
  (void)ParseNumber(absl::string_view(rules.max()), &bounds.max);
  return bounds;
}

// Why a text that was meant as a number is none; most are YAML 1.1's ways to write one.
std::string NumberHint(absl::string_view text, bool quoted) {
  uint64_t number;
  if (quoted && ParseNumber(text, &number)) return " (a number is written without quotes)";
  if (text.size() > 1 && text[0] == '0' && OnlyOf(text, IsDigit)) {
    return " (a number has no leading zero)";
  }
  return "";
}

std::string Wrong(absl::string_view text, bool quoted, absl::string_view hint,
                  const FieldDescriptor* field) {
  return absl::StrCat("found ", Found(text, quoted), hint, "; allowed: ", AllowedIn(field));
}

absl::Duration DurationOr(const std::string& text, absl::Duration otherwise) {
  const absl::StatusOr<absl::Duration> duration = ParseConfigDuration(absl::string_view(text));
  return duration.ok() ? *duration : otherwise;
}

std::string SetDuration(Message* message, const FieldDescriptor* field, absl::string_view text,
                        bool quoted) {
  const config::Rules& rules = RulesOf(field);
  const absl::StatusOr<absl::Duration> duration = ParseConfigDuration(text);
  if (!duration.ok()) {
    uint64_t number;
    return Wrong(text, quoted, ParseNumber(text, &number) ? " without a unit" : "", field);
  }
  const absl::Duration step = DurationOr(rules.step(), absl::Milliseconds(1));
  if (*duration < DurationOr(rules.min(), absl::ZeroDuration()) ||
      *duration > DurationOr(rules.max(), absl::InfiniteDuration()) ||
      absl::Trunc(*duration, step) != *duration) {
    return Wrong(text, quoted, "", field);
  }
  auto* value = google::protobuf::DynamicCastToGenerated<google::protobuf::Duration>(
      message->GetReflection()->MutableMessage(message, field));
  value->set_seconds(absl::ToInt64Seconds(*duration));
  value->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(*duration - absl::Seconds(value->seconds()))));
  return "";
}

std::string SetString(Message* message, const FieldDescriptor* field, absl::string_view text,
                      bool quoted) {
  const config::Rules& rules = RulesOf(field);
  const size_t longest = rules.max_length() == 0 ? kMaxText : rules.max_length();
  if (text.size() > longest) {
    return Wrong(text, quoted, absl::StrCat(", ", text.size(), " bytes"), field);
  }
  const absl::Status status = CheckFormat(rules.format(), text);
  if (!status.ok()) {
    return absl::StrCat(Wrong(text, quoted, "", field), AdviceOf(text, status));
  }
  const std::string value(text);
  if (field->is_repeated()) {
    message->GetReflection()->AddString(message, field, value);
  } else {
    message->GetReflection()->SetString(message, field, value);
  }
  return "";
}

}  // namespace

const config::Rules& RulesOf(const FieldDescriptor* field) {
  return field->options().GetExtension(config::rules);
}

bool IsDuration(const Descriptor* message) {
  return message->full_name() == "google.protobuf.Duration";
}

bool IsChoice(const Descriptor* message) {
  return message->real_oneof_decl_count() == 1 &&
         message->oneof_decl(0)->field_count() == message->field_count();
}

std::vector<std::string> KeysOf(const Descriptor* message) {
  std::vector<std::string> keys;
  for (int i = 0; i < message->field_count(); ++i) keys.push_back(message->field(i)->name());
  return keys;
}

std::vector<std::string> ValuesOf(const EnumDescriptor* values) {
  std::vector<std::string> names;
  for (int i = 0; i < values->value_count(); ++i) names.push_back(values->value(i)->name());
  return names;
}

std::string AllowedIn(const FieldDescriptor* field) {
  const config::Rules& rules = RulesOf(field);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM: return OneOf(ValuesOf(field->enum_type()));
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64: {
      const Bounds bounds = NumberBounds(field);
      return absl::StrCat("a whole number from ", bounds.min, " to ", bounds.max);
    }
    case FieldDescriptor::CPPTYPE_STRING: return AllowedText(rules);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (IsDuration(field->message_type())) {
        return absl::StrCat(
            "a duration such as ", rules.step().empty() ? "500ms, " : "", "10s, 15m or 1h",
            rules.max().empty()
                ? ""
                : absl::StrCat(
                      ", from ", rules.min().empty() ? "0s" : rules.min(), " to ", rules.max(),
                      rules.step().empty() ? "" : absl::StrCat(" in whole ", rules.step())));
      }
      if (IsChoice(field->message_type())) {
        return absl::StrCat(OneOf(KeysOf(field->message_type())),
                            ", or a mapping of one of them to its settings");
      }
      if (field->message_type()->field_count() == 0) return "an empty mapping, {}";
      return absl::StrCat("a mapping with the keys ", OneOf(KeysOf(field->message_type())));
    default: return "a value";
  }
}

std::optional<std::string> CanonicalDevice(absl::string_view text) {
  const std::string name(text.substr(0, text.find(',')));
  const std::string lower = absl::AsciiStrToLower(absl::string_view(name));
  for (const std::string& address : {lower, "0000:" + lower}) {
    if (IsPciAddress(absl::string_view(address))) return address;
  }
  absl::string_view driver = name;
  if (absl::ConsumePrefix(&driver, "net_") && IsName(driver, kMaxText)) return name;
  return std::nullopt;
}

std::string AdviceOf(absl::string_view text, const absl::Status& status) {
  const absl::string_view message = status.message();
  const size_t semicolon = message.rfind("; ");
  const bool is_its_own = semicolon != absl::string_view::npos && !absl::StrContains(text, ';');
  return is_its_own ? std::string(message.substr(semicolon)) : "";
}

std::string Found(absl::string_view text, bool quoted) {
  constexpr size_t kShort = 48;
  const bool bare = !quoted && !text.empty() && text.size() <= kShort && OnlyOf(text, IsVisible);
  return bare ? std::string(text) : Quote(text);
}

std::string SetScalar(Message* message, const FieldDescriptor* field, absl::string_view text,
                      bool quoted) {
  const Reflection* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (quoted || (text != "true" && text != "false")) {
        const bool in_quotes = quoted && (text == "true" || text == "false");
        return Wrong(text, quoted, in_quotes ? " (written without quotes)" : "", field);
      }
      reflection->SetBool(message, field, text == "true");
      return "";
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* value = field->enum_type()->FindValueByName(std::string(text));
      if (value == nullptr) {
        return absl::StrCat(Wrong(text, quoted, "", field),
                            Suggestion(text, ValuesOf(field->enum_type())));
      }
      reflection->SetEnum(message, field, value);
      return "";
    }
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64: {
      const Bounds bounds = NumberBounds(field);
      uint64_t number;
      if (quoted || !ParseNumber(text, &number) || number < bounds.min || number > bounds.max) {
        return Wrong(text, quoted, NumberHint(text, quoted), field);
      }
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64) {
        reflection->SetUInt64(message, field, number);
      } else if (field->is_repeated()) {
        reflection->AddUInt32(message, field, static_cast<uint32_t>(number));
      } else {
        reflection->SetUInt32(message, field, static_cast<uint32_t>(number));
      }
      return "";
    }
    case FieldDescriptor::CPPTYPE_STRING: return SetString(message, field, text, quoted);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (IsDuration(field->message_type())) return SetDuration(message, field, text, quoted);
      return Wrong(text, quoted, "", field);
    default: return "a field of a type that the walk does not know";
  }
}

}  // namespace guideway
