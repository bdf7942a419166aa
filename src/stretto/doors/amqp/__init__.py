"""The door for messages: submissions through RabbitMQ, from API servers and other programs to conductors."""
