"""What flows and descents share: vector fields, landmarks of a problem, compiled segments that a host drives."""
