package admission

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/kubernetes/pkg/kubeapiserver/options"
)

// upstreamErrors is what kube-apiserver says to the same flags.
func upstreamErrors(o Options) string {
	u := options.NewAdmissionOptions()
	u.GenericAdmission.EnablePlugins, u.GenericAdmission.DisablePlugins = o.Enable, o.Disable
	text := ""
	for i, err := range u.Validate() {
		if i > 0 {
			text += "\n"
		}
		text += err.Error()
	}
	return text
}

func TestValidateSaysWhatUpstreamSays(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"default":  {},
		"known":    {Enable: []string{"AlwaysPullImages"}, Disable: []string{"PodSecurity"}},
		"unknown":  {Enable: []string{"Nope"}, Disable: []string{"Neither", "PodSecurity"}},
		"overlaps": {Enable: []string{"PodSecurity", "EventRateLimit"}, Disable: []string{"EventRateLimit", "PodSecurity"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := o.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(upstreamErrors(o), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDefaultPluginsAreUpstreamsAndTwoMore(t *testing.T) {
	t.Parallel()
	off := options.DefaultOffAdmissionPlugins()
	want := slices.DeleteFunc(slices.Clone(options.AllOrderedPlugins), func(name string) bool {
		return off.Has(name) && name != "DenyServiceExternalIPs" && name != "NodeRestriction"
	})
	if diff := cmp.Diff(want, (&Options{}).Names()); diff != "" {
		t.Error(diff)
	}
}

func TestNamesFollowTheFlags(t *testing.T) {
	t.Parallel()
	o := Options{Enable: []string{"AlwaysPullImages", "NodeRestriction"}, Disable: []string{"DenyServiceExternalIPs", "PodSecurity"}}
	names := o.Names()
	for _, on := range o.Enable {
		if !slices.Contains(names, on) {
			t.Errorf("%s is not on", on)
		}
	}
	for _, off := range o.Disable {
		if slices.Contains(names, off) {
			t.Errorf("%s is on", off)
		}
	}
	if slices.Index(names, "NodeRestriction") > slices.Index(names, "AlwaysPullImages") {
		t.Error("the order is not upstream's: ", names)
	}
}
