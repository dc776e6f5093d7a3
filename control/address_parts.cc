#include "control/address_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace guideway {
namespace {

struct Node {
  Prefix prefix;
  AddressPart part;
};

bool IsAround(const Prefix& prefix, const Prefix& other) {
  return prefix.length <= other.length && prefix.Contains(other.address);
}

}  // namespace

void ForEachAddressPart(absl::Span<const Prefix> before, absl::Span<const Prefix> after,
                        absl::FunctionRef<void(const AddressPart&)> each) {
  std::vector<Node> nodes;
  nodes.reserve(before.size() + after.size() + 2);
  const auto add = [&](const Prefix& prefix) -> AddressPart& {
    const double size = std::ldexp(1, -prefix.length);
    return nodes.emplace_back(Node{prefix, {prefix.address.is_v4(), {}, {}, size}}).part;
  };
  add(Prefix::Parse("0.0.0.0/0").value());
  add(Prefix::Parse("::/0").value());
  for (size_t i = 0; i < before.size(); ++i) add(before[i]).before = i;
  for (size_t i = 0; i < after.size(); ++i) add(after[i]).after = i;
  // Each prefix before those in it. Equal ones become one.
  std::stable_sort(nodes.begin(), nodes.end(),
                   [](const Node& a, const Node& b) { return a.prefix < b.prefix; });
  size_t distinct = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (distinct == 0 || nodes[distinct - 1].prefix != nodes[i].prefix) {
      nodes[distinct++] = nodes[i];
      continue;
    }
    AddressPart& same = nodes[distinct - 1].part;
    if (nodes[i].part.before) same.before = nodes[i].part.before;
    if (nodes[i].part.after) same.after = nodes[i].part.after;
  }
  nodes.resize(distinct);

  std::vector<size_t> around;  // the prefixes around the next, shortest first
  for (size_t i = 0; i < nodes.size(); ++i) {
    while (!around.empty() && !IsAround(nodes[around.back()].prefix, nodes[i].prefix)) {
      around.pop_back();
    }
    if (!around.empty()) {
      AddressPart& outer = nodes[around.back()].part;
      AddressPart& inner = nodes[i].part;
      outer.size -= inner.size;
      if (!inner.before) inner.before = outer.before;
      if (!inner.after) inner.after = outer.after;
    }
    around.push_back(i);
  }
  // Longer prefixes may leave nothing of one; sums of 2⁻¹²⁸ and the like are not exact.
  constexpr double kRounding = 1e-12;
  for (const Node& node : nodes) {
    if (node.part.size > std::ldexp(kRounding, -node.prefix.length)) each(node.part);
  }
}

}  // namespace guideway
