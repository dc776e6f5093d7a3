// Where a packet goes, and why, in words for people.
#ifndef GUIDEWAY_DATAPLANE_EXPLANATION_H_
#define GUIDEWAY_DATAPLANE_EXPLANATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/flow_entry.h"

namespace guideway {

struct Explanation {
  // What a running dataplane remembers of the packet's connection.
  struct Known {
    uint32_t core = 0;  // of the worker in whose table it is
    FlowEntry entry;
    bool timed_out = false;  // it does not count any more, and is about to go
  };

  std::string packet;              // as it was understood, canonical
  std::string verdict, reason;     // as replay names them; no reason unless it is a drop
  std::string service, backend;    // names; empty: none
  std::string flow;                // «new», «hit», «none»
  std::optional<uint32_t> slot;    // of the lookup table, if it was asked
  std::string home;                // the slot's first choice; empty: nobody
  std::vector<std::string> steps;  // a sentence each
  // Of these, the one that says that `home` takes no new connections.
  std::optional<size_t> home_step;
  std::vector<std::string> headers;  // what is put in front or rewritten, outermost first
  std::vector<Known> known;          // in the order of the workers
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_EXPLANATION_H_
