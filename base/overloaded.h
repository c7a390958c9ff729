#pragma once

namespace moecast {

/// Cases of a std::visit as one callable: std::visit(Overloaded{[](const A&) {...}, [](const B&) {...}}, variant).
template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace moecast
