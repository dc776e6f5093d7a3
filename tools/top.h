// What `guideway top` shows: rates from two looks at the daemon, and a screen from rates. What is
// wrong by one look, `guideway status` shows, too.
//
// Pure: no clock, no socket, no terminal. Names and reasons may hold anything; what leaves LayOut
// is printable.
#ifndef GUIDEWAY_TOOLS_TOP_H_
#define GUIDEWAY_TOOLS_TOP_H_

#include <string>
#include <vector>

#include "control/api/api.pb.h"
#include "tools/output.h"

namespace guideway {

// One look at the daemon. Each part has a time of its own.
struct TopLook {
  api::Status status;
  api::ServiceList services;
  api::BackendList backends;
};

// What is wrong now, whatever the rates, the worst first: a sentence each, which may hold anything.
std::vector<std::string> StandingProblems(const TopLook& now);

// What the daemon's first line says of it: «serving», green; where no backend takes new connections
// of some of the services, red: «serving 1 of 2 services».
std::string ServingText(const api::Status& status, int services, int without_backend,
                        const Terminal& terminal);
// «apply of new.yaml by root was refused 2m 3s ago»
std::string RefusalText(const api::Refusal& refusal);

// Rates from the counters of both looks and the daemon's clock, in the daemon's order. None between
// two processes; what is new, or counts from 0 again, has none.
api::Top MakeTop(const TopLook& before, const TopLook& now);

// By what services and backends are sorted, the most first. What is wrong comes before all else.
enum class TopOrder { kTraffic, kNewConnections, kOpenConnections, kName };
inline constexpr int kTopOrders = 4;

// The screen: of terminal.height lines at most, each of terminal.width columns at most, with a line
// feed; 0 is unbounded. `status` is that of the later look. `keys`: the last line says what they
// do.
std::string LayOut(const api::Status& status, const api::Top& top, TopOrder order,
                   const Terminal& terminal, bool keys);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_TOP_H_
