// Package topology judges several servers on one database behind a TCP balancer, as docker-compose.yml sets them up.
package topology
