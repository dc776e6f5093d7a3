#include "control/config/named_files.h"

#include <glog/logging.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "control/config/config_values.h"
#include "control/config/scalars.h"

namespace guideway {
namespace {

using google::protobuf::Message;

// What a line of a list holds, in a message: only what may be meant for a prefix is shown. Digits
// alone, hexadecimal ones too, may be a secret.
std::string Shown(absl::string_view line) {
  constexpr size_t kLongest = 49;  // of an IPv6 prefix, an IPv4 address at its end
  const absl::string_view word = line.substr(0, line.find_first_of(" \t;,"));
  const bool is_like_one =
      word.size() <= kLongest && word.find_first_of(".:") != absl::string_view::npos &&
      std::all_of(word.begin(), word.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || absl::StrContains(".:/", c);
      });
  if (!is_like_one) return "what is no prefix";
  return absl::StrCat(word, word.size() < line.size() ? " and more behind it" : "");
}

// Calls `add` with each prefix of a list; «» or what is wrong with a line goes to `wrong`, with the
// line's place in `text`.
template <typename Add, typename Wrong>
void ReadPrefixes(absl::string_view text, Add add, Wrong wrong) {
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "\xef\xbb\xbf");  // a byte order mark
  while (!rest.empty()) {
    const size_t size = std::min(rest.find('\n'), rest.size());
    absl::string_view line = rest.substr(0, size);
    rest.remove_prefix(std::min(size + 1, rest.size()));
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const absl::StatusOr<Prefix> prefix = Prefix::Parse(line);
    if (prefix.ok()) {
      add(*prefix);
    } else {
      wrong(static_cast<size_t>(line.data() - text.data()), line, prefix.status());
    }
  }
}

class Reader {
 public:
  Reader(const Places& places, absl::string_view home, const FileReader& read, Findings* findings)
      : places_(places), home_(home), read_(read), findings_(findings) {}

  // The file that `key` of `message` names, or item `index` of it. Nothing: an error was told.
  std::optional<std::string> Read(const Message& message, absl::string_view key, int index,
                                  const std::string& path) {
    absl::StatusOr<std::string> text = read_(ResolvePath(home_, path));
    if (text.ok()) return *std::move(text);
    findings_->Error(
        places_.OfValue(message, key, index),
        absl::StrCat(places_.Path(message, key, index), ": cannot read ", ResolvePath(home_, path),
                     ": ", text.status().message(), "; allowed: a regular file of at most ",
                     kMaxConfigBytes >> 20, " MiB"));
    return std::nullopt;
  }

  template <typename Add>
  void ReadList(const Message& message, absl::string_view key, int index, const std::string& path,
                Add add) {
    const std::optional<std::string> text = Read(message, key, index, path);
    if (!text) return;
    const std::string name = ResolvePath(home_, path);
    std::optional<SourceText> source;  // once there is a fault
    size_t errors = 0;
    size_t last = 0;
    ReadPrefixes(absl::string_view(*text), add,
                 [&](size_t position, absl::string_view line, const absl::Status& status) {
                   if (++errors > NamedFiles::kMaxErrorsOfAFile) return;
                   if (!source) source.emplace(absl::string_view(name), absl::string_view(*text));
                   last = position;
                   findings_->ErrorElsewhere(
                       places_.OfValue(message, key, index),
                       absl::StrCat(source->At(position), ": found ", Shown(line),
                                    "; allowed: one prefix a line, such as 192.0.2.0/24, "
                                    "2001:db8::/32 or an address",
                                    AdviceOf(line, status)));
                 });
    if (errors > NamedFiles::kMaxErrorsOfAFile) {
      findings_->ErrorElsewhere(
          places_.OfValue(message, key, index),
          absl::StrCat(source->At(last), ": … and ", errors - NamedFiles::kMaxErrorsOfAFile,
                       " more lines of this file that are no prefix"));
    }
  }

  std::optional<uint64_t> ReadHashSeed(const config::Fleet& fleet) {
    const std::optional<std::string> text =
        Read(fleet, "hash_seed_file", -1, fleet.hash_seed_file());
    if (!text) return std::nullopt;
    const absl::string_view number = absl::StripAsciiWhitespace(absl::string_view(*text));
    const bool digits = std::all_of(number.begin(), number.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
    uint64_t seed;
    if (digits && absl::SimpleAtoi(number, &seed)) return seed;
    findings_->ErrorElsewhere(
        places_.OfValue(fleet, "hash_seed_file"),
        absl::StrCat(ResolvePath(home_, fleet.hash_seed_file()),
                     ":1:1: found no hash seed; allowed: one decimal number from 0 to "
                     "18446744073709551615"));
    return std::nullopt;
  }

  std::optional<std::array<uint8_t, 16>> ReadKey(const config::QuicConfig& quic) {
    const std::optional<std::string> text = Read(quic, "key_file", -1, quic.key_file());
    if (!text) return std::nullopt;
    const absl::string_view digits = absl::StripAsciiWhitespace(absl::string_view(*text));
    std::array<uint8_t, 16> key;
    const bool whole =
        digits.size() == 2 * key.size() && std::all_of(digits.begin(), digits.end(), [](char c) {
          return absl::ascii_isxdigit(static_cast<unsigned char>(c));
        });
    if (!whole) {  // what it holds is a secret: not shown
      findings_->ErrorElsewhere(
          places_.OfValue(quic, "key_file"),
          absl::StrCat(ResolvePath(home_, quic.key_file()),
                       ":1:1: found no key; allowed: 32 hexadecimal digits, an AES-128 key"));
      return std::nullopt;
    }
    const std::string bytes = absl::HexStringToBytes(digits);
    std::copy(bytes.begin(), bytes.end(), key.begin());
    return key;
  }

 private:
  const Places& places_;
  const absl::string_view home_;
  const FileReader& read_;
  Findings* findings_;
};

}  // namespace

std::vector<Prefix> PrefixesIn(absl::string_view list) {
  std::vector<Prefix> prefixes;
  ReadPrefixes(
      list, [&](const Prefix& prefix) { prefixes.push_back(prefix); },
      [](size_t, absl::string_view, const absl::Status&) {});
  return prefixes;
}

NamedFiles::NamedFiles(const config::Config& config, const Places& places, absl::string_view home,
                       const FileReader& read, Findings* findings) {
  Reader reader(places, home, read, findings);
  const config::Fleet& fleet = config.fleet();
  if (!fleet.has_hash_seed_file()) {
    hash_seed_ = fleet.hash_seed();
  } else if (!places.IsBroken(fleet) && !places.Has(fleet, "hash_seed")) {
    hash_seed_ = reader.ReadHashSeed(fleet).value_or(0);
  }
  for (const config::Service& service : config.services()) {
    for (const config::QuicConfig& quic : service.quic().configs()) {
      if (places.IsBroken(quic) || !quic.has_key_file()) continue;
      if (const auto key = reader.ReadKey(quic)) keys_.emplace(&quic, *key);
    }
  }

  const config::Access& access = config.access();
  if (!config.has_access() || places.IsBroken(access)) return;
  const auto deny = [&](const Prefix& prefix) { access_.try_emplace(prefix, Access::kDeny); };
  const auto allow = [&](const Prefix& prefix) { access_[prefix] = Access::kAllow; };
  for (const std::string& text : access.deny()) deny(Prefix::Parse(text).value());
  for (const std::string& text : access.allow()) allow(Prefix::Parse(text).value());
  // The size of one file bounds what it adds before this stops.
  const auto has_room = [&] { return access_.size() <= kMaxAccessPrefixes; };
  for (int i = 0; i < access.deny_files_size() && has_room(); ++i) {
    reader.ReadList(access, "deny_files", i, access.deny_files(i), deny);
  }
  for (int i = 0; i < access.allow_files_size() && has_room(); ++i) {
    reader.ReadList(access, "allow_files", i, access.allow_files(i), allow);
  }
  if (access_.size() > kMaxAccessPrefixes) {
    findings->Error(
        places.Of(access),
        absl::StrCat("access: found ", access_.size(),
                     " prefixes in its lists and files together; allowed: ", kMaxAccessPrefixes));
  }
}

std::shared_ptr<const PrefixMap> NamedFiles::AccessMap() const {
  std::vector<std::pair<Prefix, uint32_t>> prefixes;
  bool denies = false;
  for (const auto& [prefix, access] : access_) {
    prefixes.emplace_back(prefix, static_cast<uint32_t>(access));
    denies |= access == Access::kDeny;
  }
  if (!denies) return nullptr;
  absl::StatusOr<PrefixMap> map = PrefixMap::Build(prefixes);
  CHECK(map.ok()) << map.status();  // each prefix is there once
  return std::make_shared<const PrefixMap>(*std::move(map));
}

std::shared_ptr<const QuicLb> NamedFiles::QuicOf(const config::Service& service) const {
  if (!service.has_quic()) return nullptr;
  std::vector<QuicLb::Config> configs;
  for (const config::QuicConfig& quic : service.quic().configs()) {
    QuicLb::Config& config = configs.emplace_back();
    config.id = static_cast<uint8_t>(quic.id());
    config.server_id_length = static_cast<uint8_t>(quic.server_id_length());
    config.nonce_length = static_cast<uint8_t>(quic.nonce_length());
    if (const auto key = keys_.find(&quic); key != keys_.end()) config.key = key->second;
  }
  std::vector<std::pair<std::string, uint32_t>> servers;
  const std::vector<int> order = BackendOrder(service);
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string& id = service.backends(order[i]).quic_server_id();
    if (!id.empty()) servers.emplace_back(absl::HexStringToBytes(id), static_cast<uint32_t>(i));
  }
  absl::StatusOr<QuicLb> quic = QuicLb::Build(configs, servers);
  CHECK(quic.ok()) << quic.status();  // validation refuses what it would
  return std::make_shared<const QuicLb>(*std::move(quic));
}

}  // namespace guideway
