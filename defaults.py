"""Your defaults, for what the environment shall not set. Any setting of docs/settings.md may be set here, by the name of
its variable: MESSAGE_TIMEOUT = 300, or KAFKA_SECURITY_PROTOCOL = "SASL_SSL". An environment variable wins over it.
"""

CONSUMER_NAME = ""  # which row of consumer_configs this worker is

DB_HOST = "localhost"
DB_PORT = 3306
DB_NAME = ""
DB_USER = ""
DB_PASSWORD = ""
