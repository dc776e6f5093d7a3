// The addresses of this host, as the kernel has them at this moment.
//
// Packets for them are the kernel's, whoever else they might seem to be for: Compile tells the
// workers (Snapshot::IsOwn). Safe from any thread; one system call or a few, no waiting.
#ifndef GUIDEWAY_CONTROL_HOST_ADDRESSES_H_
#define GUIDEWAY_CONTROL_HOST_ADDRESSES_H_

#include <vector>

#include "maglev/net.h"

namespace guideway {

// Of all interfaces, loopback and link-local ones too, each once, in ascending order. None if the
// kernel does not say, which goes to the log.
std::vector<IpAddress> HostAddresses();

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HOST_ADDRESSES_H_
