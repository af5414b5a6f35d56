# Kafka Streams as an image: a JRE and the jars. `built` is what Maven makes of ../streams.
ARG JAVA_IMAGE=eclipse-temurin:17-jre

FROM ${JAVA_IMAGE}
WORKDIR /app
COPY built /app
USER 10001:10001
ENTRYPOINT ["java", "-cp", "/app/classes:/app/jars/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "Join"]
