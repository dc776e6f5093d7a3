// One question to a running guidewayd over its control socket, and the answer.
//
// Blocks; for a program that does one thing and ends. Every wait is bounded: all of a call takes
// no longer than about twice the patience it was given, but for one that reads lines: there it is
// the daemon that may take so long for the next.
#ifndef GUIDEWAY_TOOLS_API_CLIENT_H_
#define GUIDEWAY_TOOLS_API_CLIENT_H_

#include <google/protobuf/message.h>

#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace guideway {

// «NAME=VALUE», percent-encoded for a query.
std::string QueryPart(absl::string_view name, absl::string_view value);

class ApiClient {
 public:
  // The patience is long enough for a configuration at the bounds of what is allowed.
  explicit ApiClient(std::string socket_path, absl::Duration patience = absl::Minutes(2))
      : socket_path_(std::move(socket_path)), patience_(patience) {}

  // Each fills `answer`, or tells in sentences for people: what the daemon said when it refused
  // (InvalidArgument if it called the request wrong, NotFound if something was named that is not
  // there, else FailedPrecondition), or why it cannot be reached and what to try (Unavailable). A
  // daemon that has too much to do (HTTP status 503: it has not taken the request) is asked again
  // four times, within two seconds.
  absl::Status Get(const std::string& path, google::protobuf::Message* answer);
  absl::Status Post(const std::string& path, const google::protobuf::Message& body,
                    google::protobuf::Message* answer);
  // Gives each line of the answer to `take`, as it comes, until that returns false.
  absl::Status GetLines(const std::string& path, absl::FunctionRef<bool(absl::string_view)> take);
  // `file_name` is what errors in the text will be told of.
  absl::Status PostFile(const std::string& path, const std::string& file_name, std::string text,
                        google::protobuf::Message* answer);

 private:
  // Sends a request and gives what comes back to `take`, until that returns false or the daemon
  // closes. Every piece has the patience, or all of them together. False: nothing came.
  absl::StatusOr<bool> Exchange(const std::string& head, const std::string& body,
                                bool patience_each,
                                absl::FunctionRef<bool(const char* data, size_t size)> take);
  absl::Status Call(const std::string& head, const std::string& body,
                    google::protobuf::Message* answer);
  absl::Status CallOnce(const std::string& head, const std::string& body,
                        google::protobuf::Message* answer);
  absl::Status GetLinesOnce(const std::string& path,
                            absl::FunctionRef<bool(absl::string_view)> take);

  absl::Status NoAnswer() const;
  absl::Status NotGuidewayd() const;

  const std::string socket_path_;
  const absl::Duration patience_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_API_CLIENT_H_
