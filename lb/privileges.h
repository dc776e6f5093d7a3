// Root at the start, little more than anybody afterwards.
//
// Opening devices takes capabilities; forwarding does not. Once everything is open and listens,
// the daemon gives up what it will not need again: a fault in how it reads packets, probe answers
// or requests then cannot load kernel modules, trace processes or mount file systems. It stays
// user 0, so files of root's stay its own; others' files it may read as anybody may.
//
// docs/operations.md has the table of what each kind of device needs before and after.
#ifndef GUIDEWAY_LB_PRIVILEGES_H_
#define GUIDEWAY_LB_PRIVILEGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace guideway {

// A set of capabilities, bit n for capability n of <linux/capability.h>.
using Capabilities = uint64_t;

// What the control thread needs while the daemon runs, and to stop it cleanly, on these devices (as
// the configuration writes them). Workers and DPDK's own threads need none.
Capabilities NeededWhileRunning(const std::vector<std::string>& devices);

// Takes all capabilities but `keep` from the calling thread, and all of them from every other
// thread of the process, for good: no program that it executes gets them back
// (PR_SET_NO_NEW_PRIVS). Threads made later have those of their maker. Nothing is added: what the
// caller does not have of `keep` it does not get.
//
// An error means that a thread has kept something. Waits for the other threads, five seconds at
// most: they must let signals through. To be called once, while no thread is being made.
absl::Status DropCapabilities(Capabilities keep);

// Takes all capabilities from the calling thread, for one that may not hear of DropCapabilities: it
// waits for nobody who has none.
void DropCapabilitiesHere();

}  // namespace guideway

#endif  // GUIDEWAY_LB_PRIVILEGES_H_
