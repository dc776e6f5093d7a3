// A configured interface: one DPDK port, from its device being opened to its being closed.
//
//   Attach ──► facts() ──► (the Plan is made) ──► Start ──► bursts by the workers ──► Stop
//
// What Start sets up is the same for every kind of device, as far as the device goes along:
//   * queues and rings as planned. A frame is always in one buffer: buffers have room for the
//     largest that the MTU allows, behind DPDK's headroom, in which the outer headers find place.
//   * RSS, where planned: Microsoft's key and a redirection table that deals RX queues in turn, the
//     same on every interface, so that a connection comes to the same worker whichever way it
//     comes.
//   * Checksums by NICs where they are offered (IPv4 header, received). Never by virtual devices,
//     which would do it in software, for every byte.
//   * The MAC address, where the configuration has one and the device takes it; where it does not,
//     promiscuous mode. A net_tap is left alone: its MAC is also that of its kernel end, which
//     stands for the neighbour. Ours is the configuration's, or one made up, and all is received.
//
// Tried with net_tap, net_af_packet, net_af_xdp, net_pcap, net_ring and net_null. The parts for
// physical NICs (RSS, offloads, promiscuous mode as a fallback, link state) follow DPDK's contracts
// but were built without one to test on.
//
// Thread contract: the control thread's, but for bursts on port(), a queue of which belongs to the
// worker that the Plan gives it to. Between Start and Stop the port's number does not change.
#ifndef GUIDEWAY_DATAPLANE_IO_INTERFACE_H_
#define GUIDEWAY_DATAPLANE_IO_INTERFACE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dataplane/dataplane.h"
#include "dataplane/io/eal.h"
#include "dataplane/io/plan.h"
#include "maglev/net.h"

struct rte_eth_conf;
struct rte_eth_dev_info;
struct rte_mempool;

namespace guideway {

class Interface {
 public:
  // Opens the device. Errors name the interface and the device.
  static absl::StatusOr<std::unique_ptr<Interface>> Attach(Eal& eal, const std::string& name,
                                                           const std::string& device);
  ~Interface();
  Interface(const Interface&) = delete;
  Interface& operator=(const Interface&) = delete;

  const DeviceFacts& facts() const { return facts_; }

  // Sets the device up and starts it. `pool` serves its receive side. `only_pool`: every frame
  // that is ever sent comes from `pool`, so that the device may free them in bulk.
  absl::Status Start(const InterfacePlan& plan, rte_mempool* pool, bool only_pool);

  // No worker may use the port any more. Counts stay readable.
  void Stop();

  uint16_t port() const { return port_; }
  InterfaceStatus status() const;

 private:
  Interface(Eal& eal, const std::string& name, const std::string& device, uint16_t port);

  absl::Status Configure(const InterfacePlan& plan, const rte_eth_dev_info& info, bool only_pool);
  absl::Status SetUpQueues(const InterfacePlan& plan, rte_mempool* pool);
  absl::Status SetRedirection(const InterfacePlan& plan, const rte_eth_dev_info& info);
  void SetMac(const InterfacePlan& plan);
  bool IsLinkUp() const;
  // «interface «uplink» (net_tap0): <what>: <why> (DPDK says: …)»
  absl::Status Error(const std::string& what, int error) const;

  Eal& eal_;
  const std::string name_;
  const std::string device_;
  const DeviceName device_name_;
  const uint16_t port_;
  DeviceFacts facts_;
  MacAddress mac_;
  uint16_t mtu_ = 0;
  bool started_ = false;
  InterfaceStatus last_;  // once stopped
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_INTERFACE_H_
