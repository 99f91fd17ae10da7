package webhooks

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

type rule = func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// latency is how long the slow webhook takes.
const latency = 3 * time.Second

// rules are what the webhook does, by path.
var rules = map[string]rule{
	"allow": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return allow() },
	"deny": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return deny("this webhook denies all requests")
	},
	"slow": func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		time.Sleep(latency)
		return allow()
	},
	"attach": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var options corev1.PodAttachOptions
		if err := json.Unmarshal(r.Object.Raw, &options); err != nil || r.Operation != admissionv1.Connect {
			return deny("not an attach: " + string(r.Object.Raw))
		}
		if r.Name == "to-be-attached-pod" {
			return deny("attaching to pod 'to-be-attached-pod' is not allowed")
		}
		return allow()
	},
	"pods": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var pod corev1.Pod
		if err := json.Unmarshal(r.Object.Raw, &pod); err != nil {
			return deny(err.Error())
		}
		var reasons []string
		if pod.Labels["webhook-e2e-test"] == "webhook-disallow" {
			reasons = append(reasons, "the pod contains unwanted label")
		}
		for _, c := range pod.Spec.Containers {
			switch c.Name {
			case "webhook-disallow":
				reasons = append(reasons, "the pod contains unwanted container name")
			case "wait-forever":
				time.Sleep(time.Minute)
			}
		}
		if len(reasons) > 0 {
			return deny(strings.Join(reasons, ", "))
		}
		return allow()
	},
	// Objects whose data or spec says so are denied; deleting them is, too.
	"data": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		raw := r.Object.Raw
		if r.Operation == admissionv1.Delete {
			raw = r.OldObject.Raw
		}
		if data := dataOf(raw); data["webhook-e2e-test"] == "webhook-disallow" {
			return deny("the object contains unwanted key and value")
		} else if r.Operation == admissionv1.Delete && data["webhook-e2e-test"] == "webhook-nondeletable" {
			return deny("the object cannot be deleted because it contains unwanted key and value")
		}
		return allow()
	},
	"mutate-data": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		data := dataOf(r.Object.Raw)
		switch {
		case data["mutation-start"] == "yes" && data["mutation-stage-1"] == "":
			return patch(`[{"op":"add","path":"/data/mutation-stage-1","value":"yes"}]`)
		case data["mutation-stage-1"] == "yes" && data["mutation-stage-2"] == "":
			return patch(`[{"op":"add","path":"/data/mutation-stage-2","value":"yes"}]`)
		}
		return allow()
	},
	"mutate-pods": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if r.Name == "webhook-to-be-mutated" {
			return patch(`[{"op":"add","path":"/spec/initContainers","value":[{"name":"webhook-added-init-container","image":"webhook-added-image","resources":{}}]}]`)
		}
		return allow()
	},
	"label": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patch(`[{"op":"add","path":"/metadata/labels","value":{"added-label":"yes"}}]`)
	},
	"crds": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := json.Unmarshal(r.Object.Raw, &crd); err != nil {
			return deny(err.Error())
		}
		if crd.Labels["webhook-e2e-test"] == "webhook-disallow" {
			return deny("the crd contains unwanted label")
		}
		return allow()
	},
}

func allow() *admissionv1.AdmissionResponse { return &admissionv1.AdmissionResponse{Allowed: true} }

func deny(why string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: why}}
}

func patch(ops string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(ops), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch)}
}

// dataOf reads what config maps and the tests' custom resources have alike.
func dataOf(raw []byte) map[string]string {
	var obj struct {
		Data map[string]string `json:"data"`
	}
	_ = json.Unmarshal(raw, &obj)
	return obj.Data
}

// convert is the conversion webhook: v1 has hostPort, v2 has host and port.
func convert(w http.ResponseWriter, req *http.Request) {
	var review apiextensionsv1.ConversionReview
	if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, raw := range review.Request.Objects {
		var obj unstructured.Unstructured
		if err := json.Unmarshal(raw.Raw, &obj); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if v := obj.GetAPIVersion(); v != review.Request.DesiredAPIVersion {
			if slices.Contains([]string{"v2"}, version(review.Request.DesiredAPIVersion)) {
				host, port, _ := strings.Cut(obj.Object["hostPort"].(string), ":")
				obj.Object["host"], obj.Object["port"] = host, port
				delete(obj.Object, "hostPort")
			} else {
				obj.Object["hostPort"] = obj.Object["host"].(string) + ":" + obj.Object["port"].(string)
				delete(obj.Object, "host")
				delete(obj.Object, "port")
			}
			obj.SetAPIVersion(review.Request.DesiredAPIVersion)
		}
		resp.ConvertedObjects = append(resp.ConvertedObjects, runtime.RawExtension{Object: &obj})
	}
	review.Response, review.Request = resp, nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

func version(apiVersion string) string {
	_, v, _ := strings.Cut(apiVersion, "/")
	return v
}
