// One question under way: what all kinds of probes share, and how to make one of each.
//
// A kind says how to ask, how to stop, and what an answer is worth; Probe sees to it that there is
// exactly one answer, and in time.
//
// A deadline is judged by the backend's time, not ours: when this thread comes back late from
// something else, or something waits to be read, the probe is let run once more for as long as it
// was kept waiting.
//
// Internal to control/prober.cc and control/probe_*.cc. Thread contract: the control thread's.
#ifndef GUIDEWAY_CONTROL_PROBE_H_
#define GUIDEWAY_CONTROL_PROBE_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "control/prober.h"

namespace guideway {

class Probe : public std::enable_shared_from_this<Probe> {
 public:
  // What a probe is made of. `question` is not held past the constructor.
  struct Order {
    boost::asio::io_context& io;
    const ProbeQuestion& question;
    absl::Duration timeout;
    Prober::Done done;
  };

  virtual ~Probe() = default;
  Probe(const Probe&) = delete;

  // Asks. The probe keeps itself alive until it has called `done`.
  void Start();

 protected:
  explicit Probe(Order order);

  // Opens what is needed and asks, without waiting for anything.
  virtual boost::system::error_code Ask() = 0;
  // Closes it. What handlers are left must see that the probe is `finished`.
  virtual void Stop() = 0;
  // Whether there may be something to read.
  virtual bool AnswerWaits() = 0;

  // One of these ends the probe; none may be called from within Ask.
  void Succeed() { Finish({}); }
  void Fail(std::string reason) { Finish({ProbeAnswer::Kind::kFailed, std::move(reason)}); }
  void Fail(const boost::system::error_code& e);

  bool finished() const { return finished_; }
  boost::asio::io_context& io() { return io_; }

 private:
  void WaitForDeadline();
  void Deadline();
  void Finish(ProbeAnswer answer);

  boost::asio::io_context& io_;
  const absl::Duration timeout_;
  Prober::Done done_;
  boost::asio::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_;
  bool extended_ = false;  // past the first deadline, to the second and last
  bool finished_ = false;
};

// Whether poll(2) finds one of `events` in the descriptor.
bool IsReady(int descriptor, short events);

boost::asio::ip::address ToAsio(const IpAddress& address);

// The socket of one family through which all echo requests go.
class EchoSocket;
std::shared_ptr<EchoSocket> NewEchoSocket(boost::asio::io_context& io);

std::shared_ptr<Probe> NewTcpProbe(Probe::Order order);
std::shared_ptr<Probe> NewHttpProbe(Probe::Order order, const ProbeQuestion::Http& what);
// Certificates are judged by what `tls` trusts.
std::shared_ptr<Probe> NewHttpsProbe(Probe::Order order, const ProbeQuestion::Http& what,
                                     boost::asio::ssl::context& tls);
std::shared_ptr<Probe> NewDnsProbe(Probe::Order order, const ProbeQuestion::Dns& what);
std::shared_ptr<Probe> NewUdpProbe(Probe::Order order, const ProbeQuestion::Udp& what);
std::shared_ptr<Probe> NewIcmpProbe(Probe::Order order, std::shared_ptr<EchoSocket> socket);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PROBE_H_
