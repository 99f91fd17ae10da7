package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/filters"
)

// httpOptions say what browsers and balancers are told. The flags are kube-apiserver's.
type httpOptions struct{ filters.Hints }

func (o *httpOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Origins, "cors-allowed-origins", nil, "regular expressions of the origins whose pages may use the API, each pinned to the beginning and the end of the host; none: no other origin's may")
	fs.StringSliceVar(&o.HSTS, "strict-transport-security-directives", nil, "directives of the Strict-Transport-Security header: max-age=SECONDS, includeSubDomains, preload; none: it is not sent")
	fs.Float64Var(&o.Goaway, "goaway-chance", 0, "fraction of HTTP/2 requests after which the client is told to connect anew, so that balancers spread connections over servers: 0 to 0.02, 0.001 where there are several servers")
}

func (o *httpOptions) validate() error {
	var errs []error
	if o.Goaway < 0 || o.Goaway > 0.02 {
		errs = append(errs, errors.New("--goaway-chance can not be less than 0 or greater than 0.02"))
	}
	for _, d := range o.HSTS {
		name, value, ok := strings.Cut(d, "=")
		switch {
		case strings.TrimSpace(d) == "":
			errs = append(errs, errors.New("empty value in strict-transport-security-directives"))
		case d == "includeSubDomains", d == "preload", ok && name == "max-age" && !strings.Contains(value, "="):
		default:
			errs = append(errs, errors.New("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more information"))
		}
	}
	for _, origin := range o.Origins {
		if err := checkOrigin(origin); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkOrigin refuses patterns that would let in origins which merely contain an allowed one (CVE-2022-1996).
func checkOrigin(pattern string) error {
	if pattern == "" {
		return errors.New("empty value in --cors-allowed-origins")
	}
	has := func(marks ...string) bool {
		return slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(pattern, mark) })
	}
	_, err := regexp.Compile(pattern)
	if err == nil && (!has("^", "//") || !has("$", ":")) {
		err = errors.New("regular expression does not pin to start/end of host in the origin header")
	}
	if err != nil {
		return fmt.Errorf("--cors-allowed-origins has an invalid regular expression: %w", err)
	}
	return nil
}
