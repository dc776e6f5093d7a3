// How two lists of prefixes, of before and of after a change, cut up all addresses.
//
// In either list the longest prefix around an address decides about it. So both together cut a
// family's addresses into parts, in each of which the same prefix of the one list and the same of
// the other decide: a prefix without the longer ones in it. What part of all addresses each is
// tells how much a change touches, as far as addresses can tell.
//
// Pure; n prefixes take n log n steps.
#ifndef GUIDEWAY_CONTROL_ADDRESS_PARTS_H_
#define GUIDEWAY_CONTROL_ADDRESS_PARTS_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "maglev/net.h"

namespace guideway {

struct AddressPart {
  bool is_v4;
  std::optional<size_t> before, after;  // indices in the lists; nothing: no prefix is around it
  double size;                          // of its family's addresses, more than 0 to 1
};

// Calls `each` with every part, those around which there is no prefix included. In a list with
// equal prefixes the last of them counts.
void ForEachAddressPart(absl::Span<const Prefix> before, absl::Span<const Prefix> after,
                        absl::FunctionRef<void(const AddressPart&)> each);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_ADDRESS_PARTS_H_
