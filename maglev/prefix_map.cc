#include "maglev/prefix_map.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

constexpr int kStride = 6;
constexpr int kSlots = 1 << kStride;
constexpr int kMaxSkip = 56;

// The bits of an address from the top down, zeros after them.
using Bits = unsigned __int128;

uint64_t LoadBigEndian(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return std::endian::native == std::endian::little ? __builtin_bswap64(word) : word;
}

Bits BitsOf(const IpAddress& address) {
  return Bits{LoadBigEndian(address.bytes())} << 64 | LoadBigEndian(address.bytes() + 8);
}

int CommonBits(Bits a, Bits b) {
  const Bits differ = a ^ b;
  const int high = std::countl_zero(static_cast<uint64_t>(differ >> 64));
  return high < 64 ? high : 64 + std::countl_zero(static_cast<uint64_t>(differ));
}

struct Item {
  Bits bits;
  int length;
  uint32_t value;

  bool Contains(const Item& other) const {
    return length <= other.length && CommonBits(bits, other.bits) >= length;
  }
};

}  // namespace

absl::StatusOr<PrefixMap> PrefixMap::Build(absl::Span<const std::pair<Prefix, uint32_t>> prefixes) {
  std::vector<Item> families[2];
  for (const auto& [prefix, value] : prefixes) {
    families[prefix.address.is_v4() ? 0 : 1].push_back(
        {BitsOf(prefix.address), prefix.length, value});
  }
  struct Block {
    const Item* begin;
    const Item* end;
    uint32_t outside;
    int depth;
  };
  std::vector<Block> blocks;
  for (auto& items : families) {
    std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
      return std::tie(a.bits, a.length) < std::tie(b.bits, b.length);
    });
    std::vector<const Item*> open;
    std::vector<Item> kept;
    for (const Item& item : items) {
      while (!open.empty() && !open.back()->Contains(item)) open.pop_back();
      if (item.value == (open.empty() ? kNone : open.back()->value)) continue;
      open.push_back(&item);
      kept.push_back(item);
    }
    items = std::move(kept);
    blocks.push_back({items.data(), items.data() + items.size(), kNone, 0});
  }

  PrefixMap map;
  map.leaves_.push_back(kNone);
  for (size_t i = 0; i < blocks.size(); ++i) {
    auto [item, end, value, depth] = blocks[i];
    Node node;
    if (map.leaves_.back() != value) map.leaves_.push_back(value);
    node.first_leaf = static_cast<uint32_t>(map.leaves_.size() - 1);
    node.first_child = static_cast<uint32_t>(blocks.size());
    if (item != end) {
      const int common = std::min(item->length, CommonBits(item->bits, end[-1].bits));
      const int skip = std::min(common - depth, kMaxSkip);
      node.path = (static_cast<uint64_t>((item->bits << depth) >> 64) & ~uint64_t{0xff}) | skip;
      depth += skip;
      if (item->length == depth) value = (item++)->value;
    }
    std::array<uint32_t, kSlots> values;
    values.fill(value);
    while (item != end) {
      const auto slot_of = [depth = depth](const Item* x) {  // clang 14 cannot capture the binding
        return static_cast<int>((x->bits << depth) >> (128 - kStride));
      };
      const int slot = slot_of(item);
      if (item->length <= depth + kStride) {
        std::fill_n(values.begin() + slot, kSlots >> (item->length - depth), item->value);
        ++item;
        continue;
      }
      const Item* child = item;
      while (item != end && slot_of(item) == slot) ++item;
      node.children |= uint64_t{1} << slot;
      blocks.push_back({child, item, values[slot], depth + kStride});
    }
    for (int slot = 0; slot < kSlots; ++slot) {
      if ((node.children >> slot & 1) != 0 || values[slot] == map.leaves_.back()) continue;
      node.runs |= uint64_t{1} << slot;
      map.leaves_.push_back(values[slot]);
    }
    map.nodes_.push_back(node);
  }
  map.nodes_.shrink_to_fit();
  map.leaves_.shrink_to_fit();
  return map;
}

uint32_t PrefixMap::Find(const IpAddress& address) const {
  if (nodes_.empty() || address.is_none()) return kNone;
  uint64_t high = LoadBigEndian(address.bytes());
  uint64_t low = LoadBigEndian(address.bytes() + 8);
  const Node* node = &nodes_[address.is_v4() ? 0 : 1];
  for (;;) {
    const int skip = node->path & 0xff;
    if (((high ^ node->path) >> 8 >> (kMaxSkip - skip)) != 0) return leaves_[node->first_leaf];
    // 63 - slot.
    const int up = static_cast<int>(~(high << skip) >> (64 - kStride));
    const uint64_t children = node->children << up;
    if (children >> 63 == 0) return leaves_[node->first_leaf + std::popcount(node->runs << up)];
    node = &nodes_[node->first_child + std::popcount(children) - 1];
    const int used = skip + kStride;
    high = high << used | low >> (64 - used);
    low <<= used;
  }
}

}  // namespace guideway
