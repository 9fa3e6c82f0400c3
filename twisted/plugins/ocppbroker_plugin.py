"""What twistd finds: the service `ocppbroker`, and the endpoint `ocpps:`."""

from twisted.application.service import ServiceMaker

from broker.net.tls import OcppsParser

ocppbroker = ServiceMaker("ocppbroker", "broker.service", "A transparent OCPP broker.", "ocppbroker")
ocpps = OcppsParser()
