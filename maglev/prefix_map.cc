#include "maglev/prefix_map.h"

#include <algorithm>
#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

template <typename Word>
Word Load(const uint8_t* bytes) {
  static_assert(std::endian::native == std::endian::little);
  Word word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The address as a number: its first byte is the highest.
template <typename Key>
Key KeyOf(const IpAddress& address) {
  if constexpr (sizeof(Key) == 4) {
    return __builtin_bswap32(Load<uint32_t>(address.bytes()));
  } else {
    return Key{__builtin_bswap64(Load<uint64_t>(address.bytes()))} << 64 |
           __builtin_bswap64(Load<uint64_t>(address.bytes() + 8));
  }
}

absl::Status Validate(const Prefix& prefix, uint32_t value) {
  const int bits = prefix.address.bits();
  if (bits == 0 || prefix.length > bits || Prefix::Of(prefix.address, prefix.length) != prefix) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix.address.ToString(), "/", prefix.length, " is not a prefix"));
  }
  if (value == PrefixMap::kNone) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefix ", prefix.ToString(), " has the value that means none"));
  }
  return absl::OkStatus();
}

}  // namespace

template <typename Key>
void PrefixMap::Ranges<Key>::Begin(Key first, uint32_t value) {
  if (!firsts_.empty() && firsts_.back() == first) {  // nothing is left of the range before
    firsts_.pop_back();
    values_.pop_back();
  }
  if (!values_.empty() && values_.back() == value) return;
  firsts_.push_back(first);
  values_.push_back(value);
}

template <typename Key>
uint64_t PrefixMap::Ranges<Key>::Digest(uint64_t seed) const {
  const uint64_t firsts =
      XXH3_64bits_withSeed(firsts_.data(), firsts_.size() * sizeof(firsts_[0]), seed);
  return XXH3_64bits_withSeed(values_.data(), values_.size() * sizeof(values_[0]), firsts);
}

template <typename Key>
void PrefixMap::Ranges<Key>::Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes) {
  if (prefixes.empty()) return;
  struct Around {
    Key last;
    uint32_t value;
  };
  std::vector<Around> around;  // the prefixes that contain the current one, from the outside in
  const auto leave_those_before = [&](Key first, bool all) {
    while (!around.empty() && (all || around.back().last < first)) {
      const Key last = around.back().last;
      around.pop_back();
      if (last == static_cast<Key>(-1)) continue;  // nothing comes behind it
      Begin(last + 1, around.empty() ? kNone : around.back().value);
    }
  };
  Begin(0, kNone);
  for (const auto& [prefix, value] : prefixes) {
    const auto first = KeyOf<Key>(prefix.address);
    const Key rest = prefix.is_host() ? 0 : static_cast<Key>(-1) >> prefix.length;
    leave_those_before(first, false);
    Begin(first, value);
    around.push_back({first | rest, value});
  }
  leave_those_before(0, true);
  firsts_.shrink_to_fit();
  values_.shrink_to_fit();
}

// The last range that begins at or before the address. Which half it is in is a coin's toss, so the
// step must be a conditional move, not a branch.
template <typename Key>
uint32_t PrefixMap::Ranges<Key>::Find(const IpAddress& address) const {
  if (firsts_.empty()) return kNone;
  const auto key = KeyOf<Key>(address);
  const Key* range = firsts_.data();
  for (size_t count = firsts_.size(); count > 1; count -= count / 2) {
    const Key* middle = range + count / 2;
    range = *middle <= key ? middle : range;
  }
  return values_[range - firsts_.data()];
}

absl::StatusOr<PrefixMap> PrefixMap::Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes) {
  for (const auto& [prefix, value] : prefixes) {
    if (absl::Status status = Validate(prefix, value); !status.ok()) return status;
  }
  // By family, address and length: what contains others comes before them.
  std::vector<std::pair<Prefix, uint32_t>> sorted(prefixes.begin(), prefixes.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1].first != sorted[i].first) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("prefix ", sorted[i].first.ToString(), " comes twice"));
  }
  const auto first_v6 = std::find_if(sorted.begin(), sorted.end(),
                                     [](const auto& p) { return p.first.address.is_v6(); });
  const size_t v4_count = first_v6 - sorted.begin();
  PrefixMap map;
  map.v4_.Build(absl::MakeConstSpan(sorted).first(v4_count));
  map.v6_.Build(absl::MakeConstSpan(sorted).subspan(v4_count));
  map.digest_ = map.v6_.Digest(map.v4_.Digest(0));
  return map;
}

template class PrefixMap::Ranges<uint32_t>;
template class PrefixMap::Ranges<unsigned __int128>;

}  // namespace guideway
